// Light or dark before anything is drawn, and the keys.
const glasshouse = (() => {
  const systemIsDark = matchMedia("(prefers-color-scheme: dark)");
  const stored = () => localStorage.getItem("glasshouse-theme");
  const isDark = () => (stored() ? stored() === "dark" : systemIsDark.matches);

  function apply() {
    document.documentElement.dataset.theme = isDark() ? "dark" : "light";
    if (window.Quasar) Quasar.Dark.set(isDark());
  }
  function toggleTheme() {
    localStorage.setItem("glasshouse-theme", isDark() ? "light" : "dark");
    apply();
  }

  const isTyping = (element) =>
    element.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(element.tagName);
  let before = "";
  function onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || isTyping(event.target)) return;
    if (event.target.matches("th.sortable") && (event.key === "Enter" || event.key === " ")) {
      event.preventDefault();
      event.target.click();
    } else if (event.key === "/") {
      const filter = document.querySelector(".gh-filter input");
      if (filter) { event.preventDefault(); filter.focus(); }
    } else if (before === "g") {
      const there = [...document.querySelectorAll(".gh-nav a")].find(
        (a) => a.textContent.trim().toLowerCase().startsWith(event.key));
      if (there) location.assign(there.href);
    }
    before = event.key;
  }

  // The heads of a table sort it with a click; the keyboard has to get there as well.
  const reachHeads = () =>
    document.querySelectorAll("th.sortable:not([tabindex])").forEach((th) => (th.tabIndex = 0));
  new MutationObserver(reachHeads).observe(document, { childList: true, subtree: true });

  apply();
  systemIsDark.addEventListener("change", apply);
  addEventListener("load", () => setTimeout(apply));
  addEventListener("keydown", onKey);
  return { toggleTheme, isDark };
})();
