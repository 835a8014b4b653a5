// A volume with labels over it, slice by slice. Python answers with grey values and labels of a slice; opacity,
// window, layers, phases and the difference are drawn from them here, without asking again.

const STEP_KEYS = {
  ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1, PageUp: 10, PageDown: -10, Home: -Infinity, End: Infinity,
};
const LAYER_KEYS = { i: "input", t: "truth", p: "prediction", d: "difference" };
const PHASE_KEYS = ["m", "s", "a"];
const HELP = [
  ["← → ↑ ↓", "slice by slice"],
  ["Page ↑ ↓", "ten slices"],
  ["Home, End", "first, last slice"],
  ["1 2 3", "plane xy, xz, yz"],
  ["I T P D", "show one layer; with Shift beside the others"],
  ["S A M", "silicon, aluminides, matrix on and off"],
  ["[ ]", "opacity"],
  ["W", "automatic grey window"],
  ["+ − 0", "zoom; the wheel zooms once the picture was clicked"],
  ["Shift ← → ↑ ↓", "move the cursor by a pixel"],
  ["drag", "move the picture"],
];

function helpTable() {
  const lines = HELP.flatMap(([keys, what]) => [make("dt", {}, keys), make("dd", {}, what)]);
  return make("details", {}, make("summary", {}, "keys"), make("dl", {}, ...lines));
}

function group(label, ...buttons) {
  return make("div", { class: "alsiseg-group", role: "group", "aria-label": label }, ...buttons);
}

// All names with one of them put in, or taken out, of those shown.
function toggled(all, shown, name) {
  return all.filter((other) => (other === name) !== shown.includes(other));
}

class Comparison {
  constructor(model, el) {
    Object.assign(this, model.get("scene"), { model, slice: null, range: null, painter: new Painter() });
    this.voxel = this.voxel_size_um;
    this.names = this.phases.map((phase) => phase.name);
    this.colours = this.phases.map((phase) => rgb(phase.colour));
    this.el = el;
    this.root = begin(el, "compare");
    this.state = state(model);
    this.pictures = this.makePictures();
    this.makeButtons();
    this.makeSliders();
    this.makeLegend();
    this.makeWords();
    this.layOut();
    this.reader = this.makeReader();
  }

  // What the user does.
  get along() { return WALKED[this.model.get("plane")]; }
  get position() { return this.model.get(this.along); }
  get length() { return this.shape["zyx".indexOf(this.along)]; }
  put(changed) { this.state.put(changed); }
  step(index) { this.put({ [this.along]: clamp(index, 0, this.length - 1) }); }
  toggleLayer(name) {
    const left = toggled(this.layers, this.model.get("layers"), name);
    if (left.length) this.put({ layers: left });
  }
  togglePhase(name) { this.put({ phases: toggled(this.names, this.model.get("phases"), name) }); }
  fade(by) { this.put({ opacity: clamp(this.model.get("opacity") + by, 0, 1) }); }
  automatic() { if (this.slice) this.put({ window: automaticWindow(this.slice) }); }
  chooseWindow([black, white], n) {
    // black and white may not be the same
    const least = (grey) => (this.slice?.whole ? 1 : 1e-6 + Math.abs(grey) * 1e-6);
    if (black < white) this.put({ window: [black, white] });
    else this.put({ window: n ? [black, black + least(black)] : [white - least(white), white] });
  }
  pressed(event) { // gives whether the key means something
    const key = event.key.toLowerCase(), layer = LAYER_KEYS[key], phase = PHASE_KEYS.indexOf(key);
    if (event.key in STEP_KEYS) this.step(this.position + STEP_KEYS[event.key]);
    else if ("123".includes(key)) this.put({ plane: Object.keys(WALKED)[key - 1] });
    else if (this.layers.includes(layer)) event.shiftKey ? this.toggleLayer(layer) : this.put({ layers: [layer] });
    else if (phase >= 0) this.togglePhase(this.names[phase]);
    else if (key === "[") this.fade(-0.1);
    else if (key === "]") this.fade(0.1);
    else if (key === "w") this.automatic();
    else return false;
    return true;
  }

  // What there is on the page.
  makePictures() {
    const pictures = new Pictures("Slices; arrow keys step, Shift with arrows moves the cursor", this.voxel, {
      paint: (name, rgba) => this.paint(name, rgba),
      point: (cursor, aloud) => this.read(cursor, aloud),
      key: (event) => this.pressed(event),
    });
    this.root.addEventListener("keydown", (event) => { // letters also while a button or slider has the focus
      const isLetter = event.key.length === 1 && event.key !== " ";
      if (isLetter && !event.target.matches("input[type=number]")) pictures.pressed(event);
    });
    return pictures;
  }
  makeButtons() {
    const { pictures } = this;
    this.planeButtons = Object.entries(WALKED).map(([plane, axis]) =>
      button(plane, `plane-${plane}`, `plane ${plane}, slices along ${axis}`, () => this.put({ plane })));
    this.layerButtons = this.layers.map((layer) =>
      button(layer, `layer-${layer}`, `show or hide: ${layer}`, () => this.toggleLayer(layer)));
    this.zoomButtons = [
      button("+", "zoom-in", "zoom in", () => pictures.zoomBy(1.5)),
      button("−", "zoom-out", "zoom out", () => pictures.zoomBy(1 / 1.5)),
      button("fit", "zoom-fit", "show all of the slice", () => { pictures.fit(); pictures.redraw(); }),
    ];
  }
  makeSliders() {
    this.slices = slider("slice", "slice", { min: 0, max: 1, step: 1, input: (index) => this.step(index) });
    this.slices.range.addEventListener("keydown", (event) => { // as on the pictures, and the same in every browser
      const steps = { PageUp: 10, PageDown: -10 }[event.key];
      if (steps) { event.preventDefault(); this.step(this.position + steps); }
    });
    this.opacity = slider("opacity", "opacity", {
      min: 0, max: 1, step: 0.05, input: (value) => this.put({ opacity: value }),
    });
    const words = "window from this slice: the outer half per cent saturates";
    const auto = button("auto", "window-auto", words, () => this.automatic());
    const chosen = (ends, n) => this.chooseWindow(ends, n);
    this.greys = rangeSlider("grey window", "window", ["black", "white"], chosen, auto);
  }
  makeLegend() { // with the share of every phase in the slice
    const { labels, phases } = this;
    this.boxes = this.names.map((name) => make("input", {
      type: "checkbox", testid: `phase-${name}`, "aria-label": `show ${name}`, change: () => this.togglePhase(name),
    }));
    this.shares = phases.map(() => labels.map(() => make("td")));
    const head = ["in this slice", ...labels].map((words) => make("th", {}, words));
    const lines = phases.map((phase, n) => {
      const swatch = make("i", { style: `background: ${phase.colour}` });
      return make("tr", {}, make("td", {}, make("label", {}, this.boxes[n], swatch, phase.name)), ...this.shares[n]);
    });
    const wrong = make("tr", {}, make("td", {}, make("i", { class: "alsiseg-wrong" }), "wrong"));
    const all = [make("tr", {}, ...head), ...lines, ...(labels.length === 2 ? [wrong] : [])];
    this.legend = make("table", { class: "alsiseg-legend", testid: "legend" }, ...all);
  }
  makeWords() {
    this.readout = readOut({
      position: "position", um: "", grey: "grey", ...Object.fromEntries(this.labels.map((name) => [name, name])),
      ...(this.labels.length === 2 && { verdict: "" }),
    });
    this.agreement = make("p", { testid: "agreement" });
    this.status = make("p", { class: "alsiseg-status", testid: "status", role: "status" });
  }
  layOut() {
    const ofLabels = (element) => (this.labels.length ? element : "");
    const bar = [["plane", this.planeButtons], ["layers", this.layerButtons], ["zoom", this.zoomButtons]];
    this.root.append(
      make("div", { class: "alsiseg-main" },
        make("div", { class: "alsiseg-bar" }, ...bar.map(([label, buttons]) => group(label, ...buttons))),
        this.pictures.element, this.slices.element, this.status),
      make("div", { class: "alsiseg-aside" }, this.readout.element, ofLabels(this.legend), this.agreement,
        ofLabels(this.opacity.element), this.greys.element, helpTable()),
    );
  }
  makeReader() {
    const [xy, xz, yz] = this.shape;
    return new Slices(this.model, { xy, xz, yz }, {
      told: (words, wrong) => this.tell(words, wrong), shown: (slice) => this.show(slice),
    });
  }

  // What it shows.
  show(slice) {
    const { pictures } = this;
    if (this.slice?.plane !== slice.plane) pictures.fit();
    this.slice = slice;
    this.el.classList.add("alsiseg-live");
    if (pictures.size.join() !== slice.size.join()) {
      pictures.cursor = null;
      pictures.arrange(slice.size);
    }
    this.tell("");
    this.count();
    this.showWindow();
    this.read(pictures.cursor);
    pictures.repaint();
    Object.assign(this.root.dataset, { shownPlane: slice.plane, shownIndex: slice.index });
  }
  paint(name, rgba) {
    if (this.slice) this.painter.paint(name, this.slice, rgba, this.model.get("window"), () => this.looks());
  }
  looks() {
    const shown = this.model.get("phases"), visible = this.names.map((name) => shown.includes(name));
    return { opacity: this.model.get("opacity"), colours: this.colours, visible, two: this.labels.length === 2 };
  }
  read(cursor, aloud) {
    const { slice, phases } = this;
    if (!cursor || !slice) return this.readout.set(null, aloud);
    const i = cursor[0] * slice.size[1] + cursor[1];
    const found = this.labels.map((_, n) => phases[(slice.labels[i] >> (4 * n)) & 15].name);
    const verdict = found[0] === found[1] ? "agree" : `wrong: ${found[1]} predicted, ${found[0]} true`;
    this.readout.set([...placeWords(slice, cursor, this.voxel), short(slice.grey[i]), ...found, verdict], aloud);
  }
  count() {
    const { pairs, labels } = this.slice;
    this.shares.forEach((cells, phase) => cells.forEach((cell, n) => {
      let n_pixels = 0;
      for (const [pair, some] of pairs) n_pixels += ((pair >> (4 * n)) & 15) === phase ? some : 0;
      renew(cell, { textContent: percent(n_pixels / labels.length) });
    }));
    if (this.labels.length === 2) renew(this.agreement, { textContent: agreementWords(this.slice, this.phases) });
  }
  showWindow() {
    if (!this.slice) return;
    const window_ = this.model.get("window"), [low, high] = this.slice.extent;
    this.range = this.range ? [Math.min(this.range[0], low), Math.max(this.range[1], high)] : [low, high];
    const bounds = [Math.min(this.range[0], window_[0]), Math.max(this.range[1], window_[1])];
    this.greys.set(window_, bounds, this.slice.whole, histogram(this.slice.grey, bounds));
  }
  showChoices() {
    const [plane, layers, phases] = ["plane", "layers", "phases"].map((name) => this.model.get(name));
    const opacity = this.model.get("opacity");
    this.planeButtons.forEach((one) => one.setAttribute("aria-pressed", one.textContent === plane));
    this.layerButtons.forEach((one) => one.setAttribute("aria-pressed", layers.includes(one.textContent)));
    this.boxes.forEach((box, n) => { box.checked = phases.includes(this.names[n]); });
    this.opacity.set(opacity, percent(opacity).replace(".0", ""));
  }
  recolour() {
    this.showChoices();
    this.painter.recolour();
    this.pictures.repaint();
  }
  walk() {
    const { along, position: index, length, voxel } = this, um = voxel ? `, ${(index * voxel).toFixed(1)} µm` : "";
    renew(this.slices.range, { max: length - 1 });
    this.slices.set(index, `${index + 1} of ${length} (${along} ${index}${um})`);
    this.reader.want(this.model.get("plane"), index);
  }
  tell(words, wrong = false) {
    renew(this.status, { textContent: words });
    this.status.classList.toggle("alsiseg-error", wrong);
  }

  // From beginning to end.
  open() {
    this.showChoices();
    this.read(null);
    this.pictures.size = this.shape.slice(1);
    this.pictures.show(this.model.get("layers"));
    this.walk();
  }
  get listeners() {
    const walk = () => this.walk(), recolour = () => this.recolour();
    return {
      "change:plane": () => { this.showChoices(); walk(); }, "change:z": walk, "change:y": walk, "change:x": walk,
      "change:layers": () => { this.showChoices(); this.pictures.show(this.model.get("layers")); },
      "change:phases": recolour, "change:opacity": recolour,
      "change:window": () => { this.showWindow(); this.pictures.repaint(); },
    };
  }
  end() {
    this.state.end();
    this.reader.end();
    this.pictures.observer.disconnect();
  }
}

function render({ model, el }) {
  const comparison = new Comparison(model, el), listeners = Object.entries(comparison.listeners);
  for (const [name, hear] of listeners) model.on(name, hear);
  comparison.open();
  return () => {
    for (const [name, hear] of listeners) model.off(name, hear);
    comparison.end();
  };
}

export default { render };
