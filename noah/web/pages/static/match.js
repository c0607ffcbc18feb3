// Which names of one row are in another: the longest common subsequence.

const MOST = 250000; // cells; where more has changed at once than that, all of it is new

/** For each name of *after* where it is in *before*, in order; -1 for those that are new. */
export function matched(before, after) {
  const found = new Array(after.length).fill(-1);
  let [first, i, j] = [0, before.length, after.length];
  for (; first < i && first < j && before[first] === after[first]; first++) found[first] = first;
  for (; i > first && j > first && before[i - 1] === after[j - 1]; ) found[--j] = --i;
  const [rows, columns] = [i - first, j - first];
  if (rows * columns > MOST) return found;
  const lengths = Array.from({ length: rows + 1 }, () => new Uint16Array(columns + 1));
  for (let r = rows - 1; r >= 0; r--)
    for (let c = columns - 1; c >= 0; c--)
      lengths[r][c] =
        before[first + r] === after[first + c]
          ? lengths[r + 1][c + 1] + 1
          : Math.max(lengths[r + 1][c], lengths[r][c + 1]);
  for (let r = 0, c = 0; r < rows && c < columns; ) {
    if (before[first + r] === after[first + c]) found[first + c++] = first + r++;
    else if (lengths[r + 1][c] >= lengths[r][c + 1]) r++;
    else c++;
  }
  return found;
}
