// Left and right arrow walk along units or layers, Escape goes up.
addEventListener("keydown", (event) => {
  if (event.altKey || event.ctrlKey || event.metaKey || event.shiftKey || event.target.matches("input")) return;
  const rel = { ArrowLeft: "prev", ArrowRight: "next", Escape: "up" }[event.key];
  const link = rel && document.querySelector(`a[rel="${rel}"]`);
  if (!link) return;
  event.preventDefault();
  if (rel === "up") location.href = link.href;
  else location.replace(link.href); // so that "back" leads to where the walk began
});
