// A link may carry a token behind its "#", which browsers send to nobody: it is taken from the address at once, so that
// neither the history nor a screen has it.

const token = new URLSearchParams(location.hash.slice(1)).get("token");
if (token) {
  history.replaceState(null, "", location.pathname + location.search);
  document.getElementById("token").value = token;
  document.getElementById("by-token").submit();
}
