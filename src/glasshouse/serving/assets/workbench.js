// Theme, keyboard shortcuts and live updates. Loaded in the head, so that a dark page never flashes white.
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

  // Quasar sorts a table by a click on its header cells; make them reachable by keyboard as well.
  const reachHeads = () =>
    document.querySelectorAll("th.sortable:not([tabindex])").forEach((th) => (th.tabIndex = 0));
  new MutationObserver(reachHeads).observe(document, { childList: true, subtree: true });

  // A column next to a longer one stays in sight; one that is higher than the window, by its end.
  const BAR = 68, EDGE = 16;
  const sides = new ResizeObserver((changes) => {
    for (const { target } of changes)
      target.style.top = `${Math.min(BAR, innerHeight - target.offsetHeight - EDGE)}px`;
  });
  const keepSides = () => document.querySelectorAll(".gh-side").forEach((side) => sides.observe(side));
  new MutationObserver(keepSides).observe(document, { childList: true, subtree: true });
  addEventListener("resize", () =>
    document.querySelectorAll(".gh-side").forEach((side) => { sides.unobserve(side); sides.observe(side); }));

  // Apply a message about a run in training: changed texts, and new points of the charts.
  const SHARE_DONE = "share-done", IN_SIGHT = "glasshouse-in-sight";
  function live(change) {
    if (document.hidden) emitEvent(IN_SIGHT, false);
    for (const [name, words] of Object.entries(change.words)) {
      const element = document.querySelector(`[data-live="${name}"]`);
      if (!element) continue;
      if (name === SHARE_DONE) {
        element.style.width = words;
        element.parentElement.setAttribute("aria-valuenow", Math.round(parseFloat(words)));
      } else {
        // Vue holds on to its text node: change that node instead of replacing it.
        (element.firstChild ?? element.appendChild(document.createTextNode(""))).nodeValue = words;
      }
    }
    for (const [name, lines] of Object.entries(change.charts)) drawLines(name, lines);
  }
  function drawLines(name, lines) {
    const element = document.querySelector(`[data-live="${name}"]`);
    const chart = element && getElement(Number(element.id.slice(1)))?.chart;
    if (!chart) { if (element) setTimeout(() => drawLines(name, lines), 50); return; }
    const series = new Map(chart.getOption().series.map((one) => [one.name, { name: one.name }]));
    const known = new Map(chart.getOption().series.map((one) => [one.name, one.data]));
    for (const { from, data, ...line } of lines)
      series.set(line.name, { ...line, data: [...(known.get(line.name) ?? []).slice(0, from), ...data] });
    chart.setOption({ series: [...series.values()] });  // in full: ECharts merges series by position
  }
  document.addEventListener("visibilitychange", () => {
    if (document.querySelector("[data-live]")) emitEvent(IN_SIGHT, !document.hidden);
  });

  // Within a grid the arrow keys move: it is one stop of the Tab key, however many cells it has.
  const STEPS = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
  function onGridKey(event) {
    const cell = event.target.closest?.("[role=gridcell]");
    if (!cell || event.ctrlKey || event.metaKey || event.altKey) return;
    const rows = [...cell.closest("[role=grid]").querySelectorAll("[role=row]")]
      .map((row) => [...row.querySelectorAll("[role=gridcell]")]).filter((row) => row.length);
    const y = rows.findIndex((row) => row.includes(cell)), x = rows[y].indexOf(cell);
    let to;
    if (event.key in STEPS) to = rows[y + STEPS[event.key][0]]?.[x + STEPS[event.key][1]] ?? cell;
    else if (event.key === "Home") to = rows[y][0];
    else if (event.key === "End") to = rows[y].at(-1);
    else if (event.key === "Enter" || event.key === " ") (cell.querySelector("a, button") ?? cell).click();
    else return;
    event.preventDefault();
    to?.focus();
  }
  function onGridFocus(event) {
    const cell = event.target.closest?.("[role=gridcell]");
    if (!cell) return;
    for (const other of cell.closest("[role=grid]").querySelectorAll("[role=gridcell]"))
      other.tabIndex = other === cell ? 0 : -1;
  }
  addEventListener("keydown", onGridKey);
  addEventListener("focusin", onGridFocus);

  // Open what an error message is folded into, and move to the first field marked as wrong.
  function reveal(id) {
    document.getElementById(id)?.closest("details")?.setAttribute("open", "");
    setTimeout(() => {
      // The preview checks after every change: nobody is moved away from what they are typing.
      if (document.activeElement?.matches("input, textarea")) return;
      const first = document.querySelector(".q-field--error");
      first?.scrollIntoView({ block: "center" });
      first?.querySelector("input, textarea")?.focus();
    }, 100);
  }

  apply();
  systemIsDark.addEventListener("change", apply);
  addEventListener("load", () => setTimeout(apply));
  addEventListener("keydown", onKey);
  return { toggleTheme, isDark, live, reveal };
})();
