"""Where an options file assigns one variable: the words of a shell, or of systemd's EnvironmentFile.

Only what is understood is changed. Whatever else mentions the variable (an eval, a `read`, a default by `${X:=...}`) is
a reason to refuse, with its line: a change beside it could be undone by it, or undo it.
"""

import re
import sys
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field

_BEGIN = frozenset({"if", "for", "while", "until", "case", "select", "{"})
_END = frozenset({"fi", "done", "esac", "}"})
_CLAUSES = frozenset({"then", "else", "elif", "do", "!"})  # a command follows them
_EXPORTING = frozenset({"export", "readonly", "declare", "typeset"})


class NotEditable(ValueError):
    """One half of a sentence, why."""


@dataclass(frozen=True, slots=True)
class Assignment:
    value_at: int
    value_end: int
    adds: bool  # by +=
    always: bool  # not within an `if` or behind an `&&`
    alone: bool  # nothing is run with it


@dataclass(slots=True)
class Statement:
    depth: int
    after: str  # the operator before it: "", ;, &&, ||, |, &
    words: list[tuple[int, int]] = field(default_factory=list)  # where each begins and ends
    ended_by: str = ""


def assignments(text: str, variable: str) -> list[Assignment]:
    """Return the assignments of *variable*, in their order. NotEditable when something else may set it."""
    statements, comments = _statements(text)
    found: list[Assignment] = []
    known = set[int]()  # where the variable is mentioned in a way that is understood
    for statement in statements:
        words = [text[start:end] for start, end in statement.words]
        if words and words[0] in {".", "source"}:
            raise NotEditable(
                f"it reads another file (line {_line(text, statement.words[0][0])}), which may set {variable}"
            )
        exporting = bool(words) and words[0] in _EXPORTING
        leading = True
        for (start, end), word in zip(statement.words, words, strict=True):
            match = re.match(r"(\w+)(\+?)=", word)
            leading = leading and (match is not None or word in _CLAUSES)
            if match and match[1] == variable and (leading or exporting):
                alone = exporting or all(re.match(r"\w+\+?=", each) for each in words)
                always = (
                    statement.depth == 0 and statement.after in {"", ";", "&"} and statement.ended_by not in {"&", "|"}
                )
                found.append(Assignment(start + match.end(), end, bool(match[2]), always, alone))
                known.add(start)
            elif word == variable and exporting:
                known.add(start)
    for mention in re.finditer(rf"(?<![A-Za-z0-9_]){re.escape(variable)}(?![A-Za-z0-9_])", text):
        if mention.start() not in known and not _is_harmless(text, mention, comments):
            raise NotEditable(
                f"{variable} is mentioned in a way that is not understood (line {_line(text, mention.start())}): "
                f'put {variable}="..." on a line of its own'
            )
    return found


def is_mentioned(text: str, variable: str) -> bool:
    _, comments = _statements(text)
    mentions = re.finditer(rf"(?<![A-Za-z0-9_]){re.escape(variable)}(?![A-Za-z0-9_])", text)
    return any(not _within(comments, mention.start()) for mention in mentions)


def _is_harmless(text: str, mention: re.Match[str], comments: list[tuple[int, int]]) -> bool:
    """True for a comment, for a look at the variable's value, and for its name within a text."""
    start, end = mention.span()
    if _within(comments, start):
        return True
    before, after = text[max(0, start - 2) : start], text[end : end + 2]
    if before.endswith("$"):
        return True
    if before == "${":
        return not after.startswith("=") and after != ":="
    # A word by itself may be what a `read` or an `unset` names, and `X=` within quotes what an `eval` runs.
    by_itself = (not before or before[-1] in " \t\n;&|(") and (not after or after[0] in " \t\r\n;&|)=+[")
    return not by_itself and not after.startswith(("=", "+", "["))


def _within(spans: list[tuple[int, int]], position: int) -> bool:
    """*spans*: in their order."""
    number = bisect_right(spans, (position, sys.maxsize)) - 1
    return number >= 0 and position < spans[number][1]


def _line(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1


def _statements(text: str) -> tuple[list[Statement], list[tuple[int, int]]]:
    """Return a shell's simple commands, and where its comments are.

    Where quotes have no end it is not a shell's file, and each line is a statement, as for systemd.
    """
    try:
        return _of_shell(text)
    except _NotShell:
        return _of_systemd(text)


class _NotShell(Exception):
    """Quotes or brackets without an end."""


def _of_systemd(text: str) -> tuple[list[Statement], list[tuple[int, int]]]:
    statements, comments = [], []
    for match in re.finditer(r"[ \t]*([^\r\n]*)", text):
        start, end = match.span(1)
        if match[1][:1] in {"#", ";"}:
            comments.append((start, end))
        elif match[1]:
            statements.append(Statement(0, "", [(start, end)]))
    return statements, comments


def _of_shell(text: str) -> tuple[list[Statement], list[tuple[int, int]]]:
    statements: list[Statement] = []
    comments: list[tuple[int, int]] = []
    depth, brackets, statement = 0, 0, Statement(0, "")
    for kind, start, end in _tokens(text):
        piece = text[start:end]
        if kind == "comment":
            comments.append((start, end))
        elif kind == "operator":
            if statement.words:
                statements.append(statement)
            if piece == "(":
                brackets += 1
            elif piece == ")" and brackets:  # else a pattern's of a `case`
                brackets -= 1
            statement.ended_by = piece
            after = "" if piece in {"\n", "(", ")", ";;"} else piece
            statement = Statement(depth + brackets, after)
        else:
            if not statement.words or all(text[a:b] in _CLAUSES for a, b in statement.words):
                depth += int(piece in _BEGIN) - int(piece in _END)
                statement.depth = depth + brackets
            statement.words.append((start, end))
    if statement.words:
        statements.append(statement)
    return statements, comments


def _tokens(text: str) -> Iterator[tuple[str, int, int]]:
    at = 0
    while at < len(text):
        char = text[at]
        if char in " \t\r":
            at += 1
        elif text.startswith("\\\n", at) or text.startswith("\\\r\n", at):
            at = text.index("\n", at) + 1
        elif char == "#":
            end = text.find("\n", at)
            end = len(text) if end < 0 else end
            yield "comment", at, end
            at = end
        elif text.startswith("<<", at):
            raise NotEditable(f"it has a here-document (line {_line(text, at)})")
        elif char in "\n;&|()<>":
            end = at + (2 if text[at : at + 2] in ("&&", "||", ";;", ">>", ">&", "<&", "&>") else 1)
            if char in "<>" or text[at:end] == "&>":
                # A redirection belongs to its command.
                at = end
                continue
            yield "operator", at, end
            at = end
        else:
            end = _word_end(text, at)
            yield "word", at, end
            at = end


def _word_end(text: str, at: int) -> int:
    while at < len(text) and text[at] not in " \t\r\n;&|()<>":
        at = _part_end(text, at)
    return at


def _part_end(text: str, at: int) -> int:
    """Return where one character, or all that stands within quotes or brackets, ends."""
    char = text[at]
    if char == "\\":
        return at + 2
    if char == "'":
        return _find(text, "'", at + 1) + 1
    if char in '"`':
        at += 1
        while at < len(text) and text[at] != char:
            at = _part_end(text, at) if text[at] in "\\$" else at + 1
        return _closed(text, at)
    if text.startswith("${", at):
        at += 2
        while at < len(text) and text[at] != "}":
            at = _part_end(text, at)
        return _closed(text, at)
    if text.startswith("$(", at):
        return _brackets_end(text, at + 2)
    return at + 1


def _brackets_end(text: str, at: int) -> int:
    open_brackets = 1
    while at < len(text):
        if text[at] in "()":
            open_brackets += 1 if text[at] == "(" else -1
            at += 1
            if not open_brackets:
                return at
        else:
            at = _part_end(text, at)
    raise _NotShell


def _closed(text: str, at: int) -> int:
    if at >= len(text):
        raise _NotShell
    return at + 1


def _find(text: str, what: str, at: int) -> int:
    found = text.find(what, at)
    if found < 0:
        raise _NotShell
    return found
