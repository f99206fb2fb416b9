// The chart of a map: draws points with plotly.js and says which of them are selected.
// plotly.js takes what looks like a tag in a name for one.
const plain = (name) => name.replaceAll("&", "&amp;").replaceAll("<", "&lt;");
const MODES = { lasso: "lasso", box: "select", move: "pan" };

export default {
  template: `
    <div class="gh-map-chart">
      <div ref="plot" class="gh-map-plot" role="img" :aria-label="description"></div>
      <p ref="problem" class="gh-bad" role="alert" hidden></p>
      <figure ref="tip" class="gh-map-tip" hidden aria-hidden="true">
        <img ref="image" alt="" class="gh-pixels"><figcaption ref="caption"></figcaption>
      </figure>
    </div>`,
  props: {
    points: String, images: String, version: String, count: Number, planes: Array, plane: String,
    looks: Object, colouring: String, ramp: Array, values: Object, classes: Array,
    description: String,
  },
  async mounted() {
    this.dragmode = "lasso";
    this.chosen = null;
    try {
      const [{ Plotly }] = await Promise.all([import("nicegui-plotly"), this.load()]);
      this.Plotly = Plotly;
      await this.draw();
    } catch (error) {
      this.$refs.problem.textContent = `Cannot draw the map: ${error.message}`;
      this.$refs.problem.hidden = false;
      return;
    }
    const plot = this.$refs.plot;
    plot.on("plotly_selected", (event) => this.select(event));
    plot.on("plotly_deselect", () => this.select(null));
    plot.on("plotly_hover", (event) => this.showTip(event));
    plot.on("plotly_unhover", () => this.hideTip());
    this.sizes = new ResizeObserver(() => this.Plotly.Plots.resize(plot));
    this.sizes.observe(plot);
    this.themes = new MutationObserver(() => this.draw());
    this.themes.observe(document.documentElement, { attributeFilter: ["data-theme"] });
    this.$el.dataset.drawn = Math.round(performance.now());
  },
  unmounted() {
    this.sizes?.disconnect();
    this.themes?.disconnect();
    if (this.Plotly) this.Plotly.purge(this.$refs.plot);
  },
  watch: {
    async version() { await this.load(); await this.draw(true); },
    plane() { this.draw(true); },
    colouring() { this.draw(); },
  },
  methods: {
    async load() {
      const answer = await fetch(`${this.points}?${this.version}`);
      if (!answer.ok) throw new Error((await answer.json()).detail ?? answer.statusText);
      const bytes = await answer.arrayBuffer();
      const n = this.count;
      let at = 0;
      const floats = (size) => { const f = new Float32Array(bytes, at, size); at += 4 * size; return f; };
      const planes = {};
      for (const name of this.planes) {
        const both = floats(2 * n);
        planes[name] = { x: both.filter((_, i) => i % 2 === 0), y: both.filter((_, i) => i % 2) };
      }
      const found = { planes, confidence: floats(n), unusual: floats(n) };
      for (const name of ["label", "answer"]) {
        found[name] = new Uint16Array(bytes, at, n);
        at += 2 * n;
      }
      for (const name of ["class", "predicted", "mistake", "split"]) {
        found[name] = new Uint8Array(bytes, at, n);
        at += n;
      }
      this.found = found;
    },
    traces() {
      const { x, y } = this.found.planes[this.plane] ?? this.found.planes.pca;
      const size = Math.min(9, Math.max(3, 260 / Math.sqrt(this.count)));
      // A browser without WebGL draws the same points more slowly.
      const type = this.hasWebgl() ? "scattergl" : "scatter";
      const common = {
        type, mode: "markers", hoverinfo: "none",
        selected: { marker: { opacity: 1 } }, unselected: { marker: { opacity: 0.12 } },
      };
      const look = this.looks[this.colouring];
      if (!look) {
        const all = Array.from({ length: this.count }, (_, i) => i);
        const scale = this.ramp.map((colour, i) => [i / (this.ramp.length - 1), colour]);
        const bar = { thickness: 10, outlinewidth: 0, len: 0.8, title: { text: this.values[this.colouring], side: "right" } };
        const marker = { size, opacity: 0.8, color: this.found[this.colouring], colorscale: scale, colorbar: bar };
        return [{ ...common, x, y, customdata: all, marker, showlegend: false }];
      }
      const of = this.found[this.colouring];
      const rows = look.names.map(() => []);
      for (let i = 0; i < this.count; i++) rows[of[i]].push(i);
      return look.names.map((name, part) => ({
        ...common, name: plain(name), customdata: rows[part],
        x: Float32Array.from(rows[part], (i) => x[i]), y: Float32Array.from(rows[part], (i) => y[i]),
        marker: {
          size: this.colouring === "mistake" && part ? size + 2 : size, opacity: 0.8, color: look.colours[part],
          symbol: this.colouring === "mistake" && part ? "x" : "circle",
        },
      }));
    },
    async draw(whole = false) {
      const ink = getComputedStyle(document.documentElement).getPropertyValue("--ink").trim();
      const axis = { visible: false, zeroline: false, showgrid: false };
      const old = this.$refs.plot._fullLayout;
      const kept = (name) => (old && !whole ? { range: [...old[name].range] } : { autorange: true });
      const layout = {
        paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { color: ink, family: "inherit", size: 13 },
        margin: { l: 4, r: 4, t: 4, b: 4 }, dragmode: MODES[this.dragmode], hovermode: "closest",
        xaxis: { ...axis, ...kept("xaxis") }, yaxis: { ...axis, scaleanchor: "x", ...kept("yaxis") },
        legend: { orientation: "h", x: 0, y: 0, yanchor: "top", itemsizing: "constant" },
        newselection: { line: { color: ink, width: 1.5 } }, showlegend: Boolean(this.looks[this.colouring]),
      };
      const config = { displayModeBar: false, scrollZoom: true, responsive: false, doubleClick: "reset" };
      const traces = this.traces();
      if (this.chosen) this.mark(traces);
      await this.Plotly.react(this.$refs.plot, traces, layout, config);
    },
    hasWebgl() {
      this.webgl ??= Boolean(document.createElement("canvas").getContext("webgl"));
      return this.webgl;
    },
    mark(traces) {
      for (const trace of traces) {
        trace.selectedpoints = [];
        trace.customdata.forEach((row, i) => { if (this.chosen.has(row)) trace.selectedpoints.push(i); });
      }
    },
    select(event) {
      // Plotly also reports that a selection has been drawn anew, without points.
      if (this.quiet || (event && !event.points)) return;
      const bits = new Uint8Array(Math.ceil(this.count / 8));
      this.chosen = event ? new Set(event.points.map((point) => point.customdata)) : null;
      for (const row of this.chosen ?? []) bits[row >> 3] |= 128 >> (row & 7);
      this.$emit("area", btoa(String.fromCharCode(...bits)));
    },
    async highlight(bits) {
      const bytes = Uint8Array.from(atob(bits), (letter) => letter.charCodeAt(0));
      this.chosen = new Set();
      for (let row = 0; row < this.count; row++) if (bytes[row >> 3] & (128 >> (row & 7))) this.chosen.add(row);
      if (!this.chosen.size) this.chosen = null;
      // Removing the drawn area is reported as a selection of nothing.
      this.quiet = true;
      await this.Plotly.relayout(this.$refs.plot, { selections: [] });
      await this.draw();
      this.quiet = false;
    },
    mode(name) {
      this.dragmode = name;
      this.Plotly.relayout(this.$refs.plot, { dragmode: MODES[name] });
    },
    zoom(by) {
      const change = {};
      for (const name of ["xaxis", "yaxis"]) {
        const [low, high] = this.$refs.plot._fullLayout[name].range;
        const middle = (low + high) / 2, half = ((high - low) / 2) * by;
        change[`${name}.range`] = [middle - half, middle + half];
      }
      this.Plotly.relayout(this.$refs.plot, change);
    },
    whole() {
      this.Plotly.relayout(this.$refs.plot, { "xaxis.autorange": true, "yaxis.autorange": true });
    },
    showTip(event) {
      const point = event.points[0], row = point.customdata, { tip, image, caption } = this.$refs;
      const word = (name) => this.classes[this.found[name][row]];
      image.src = `${this.images.replace("POSITION", row)}?${this.version}`;
      const right = this.found.mistake[row] ? `${word("label")}, answered ${word("answer")}` : word("label");
      caption.textContent = `${right}, ${Math.round(100 * this.found.confidence[row])}\u00a0%`;
      tip.hidden = false;
      const place = this.$el.getBoundingClientRect();
      const x = event.event.clientX - place.left, y = event.event.clientY - place.top;
      tip.style.left = `${Math.max(0, Math.min(x + 14, place.width - 150))}px`;
      tip.style.top = `${y > place.height / 2 ? y - 170 : y + 14}px`;
    },
    hideTip() {
      this.$refs.tip.hidden = true;
    },
  },
};
