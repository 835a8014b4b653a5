// A volume with labels over it, slice by slice. Python answers with grey values and labels of a slice; opacity,
// window, layers, phases and the difference are drawn from them here, without asking again.

const WALKED = { xy: "z", xz: "y", yz: "x" }; // the axis that the slice slider walks along
const ACROSS = { xy: ["y", "x"], xz: ["z", "x"], yz: ["z", "y"] }; // rows and columns of the picture
const STEP_KEYS = {
  ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1, PageUp: 10, PageDown: -10, Home: -Infinity, End: Infinity,
};
const LAYER_KEYS = { i: "input", t: "truth", p: "prediction", d: "difference" };
const KEPT_BYTES = 64 * 2 ** 20; // of slices seen before
const BUSY = "Waiting for Python: another cell may be running, or the kernel may have ended.";
const WRONG = [0, 0, 0];
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


// Slices asked for one at a time, the newest first; Python sends the next ones unasked, and they are kept.
class Slices {
  constructor(model, lengths, { shown, told }) {
    Object.assign(this, { model, lengths, shown, told, kept: new Map(), wanted: null, asked: null, waiting: 0 });
    this.hear = (message, buffers) => this.answered(message, buffers);
    model.on("msg:custom", this.hear);
  }
  want(plane, index) {
    const step = this.wanted?.plane === plane ? Math.sign(index - this.wanted.index) : 0;
    this.wanted = { plane, index, key: `${plane} ${index}` };
    const known = this.kept.get(this.wanted.key);
    if (known) this.shown(known);
    const isFree = !this.asked || this.asked.plane !== plane;
    if (!known && (isFree || this.asked.isAhead)) this.ask(this.wanted);
    else if (known && isFree && step) this.askAhead(plane, index, step);
  }
  askAhead(plane, index, step) { // before the slices run out that came unasked
    const isMissing = (i) => i >= 0 && i < this.lengths[plane] && !this.kept.has(`${plane} ${i}`);
    const next = [index + step, index + 2 * step].find(isMissing);
    if (next !== undefined) this.ask({ plane, index: next, key: `${plane} ${next}`, isAhead: true });
  }
  ask(asked) {
    this.asked = asked;
    const { plane, index } = asked;
    clearTimeout(this.waiting);
    if (!asked.isAhead) this.waiting = setTimeout(() => this.told(BUSY), 1500);
    try {
      this.model.send({ type: "slice", plane, index });
    } catch {
      this.told("Run the cell again to move through the slices.");
    }
  }
  answered(message, buffers) {
    if (message.type === "progress" && this.asked?.plane === message.plane) {
      clearTimeout(this.waiting);
      const left = message.left_s < 90 ? `${Math.ceil(message.left_s)} s` : `${Math.ceil(message.left_s / 60)} min`;
      const done = `${Math.floor(100 * message.done)} %, ${left} left`;
      this.told(`Reading through the file for plane ${message.plane}: ${done}. Another plane stops it.`);
    } else if (message.type === "error") {
      clearTimeout(this.waiting);
      this.asked = null;
      this.told(message.text, true);
    } else if (message.type === "slice") {
      const { plane, index } = message, key = `${plane} ${index}`, wanted = this.wanted, asked = this.asked;
      const slice = { plane, index, size: [message.rows, message.columns], grey: typed(message.dtype, buffers[0]) };
      slice.labels = buffers[1] ? typed("uint8", buffers[1]) : new Uint8Array(slice.grey.length);
      slice.pairs = countPairs(slice.labels);
      slice.extent = extent(slice.grey);
      slice.whole = message.dtype.includes("int");
      this.keep(key, slice);
      const isAnswer = asked?.key === key;
      if (isAnswer) {
        clearTimeout(this.waiting);
        this.asked = null;
      }
      // Also slices on the way to the wanted one are shown, so that pulling the slider shows something.
      if (key === wanted.key || (isAnswer && !asked.isAhead && plane === wanted.plane)) this.shown(slice);
      if (!this.asked && !this.kept.has(wanted.key)) this.ask(wanted);
    }
  }
  keep(key, slice) {
    this.kept.set(key, slice);
    const n_bytes = slice.grey.byteLength + slice.labels.byteLength;
    while (this.kept.size > 2 && this.kept.size * n_bytes > KEPT_BYTES) this.kept.delete(this.kept.keys().next().value);
  }
  end() {
    clearTimeout(this.waiting);
    this.model.off("msg:custom", this.hear);
    try { this.model.send({ type: "closed" }); } catch { /* nobody listens any more */ }
  }
}

// Colours of one layer, as figures.overlay_picture and figures.difference_picture draw them, looked up by the
// labels (truth in the lower, prediction in the upper four bits when there are both) and the grey value 0 to 255.
function colourTable(layer, slice, { opacity, colours, visible }) {
  const table = new Uint8ClampedArray(4 * 65536), shift = layer === "prediction" && slice.second ? 4 : 0;
  slice.pairs.forEach((_, pair) => {
    const phase = layer === "difference" ? pair & 15 : (pair >> shift) & 15, wrong = phase !== pair >> 4;
    let share = layer === "input" || !visible[phase] ? 0 : opacity, colour = colours[phase];
    if (layer === "difference") {
      share = wrong ? 1 : opacity;
      colour = wrong ? WRONG : colour.map((part) => 255 - (255 - part) * 0.3);
    }
    for (let value = 0, at = pair << 10; value < 256; value++, at += 4) {
      const grey = layer === "difference" ? 255 - (255 - value) * 0.5 : value;
      for (let c = 0; c < 3; c++) table[at + c] = grey + (colour[c] - grey) * share;
      table[at + 3] = 255;
    }
  });
  return new Uint32Array(table.buffer);
}

function paintLayer(layer, slice, rgba, [black, white], looks) {
  const gain = 255 / (white - black), { grey, labels } = slice;
  const pixels = new Uint32Array(rgba.buffer), table = colourTable(layer, slice, looks);
  for (let i = 0; i < grey.length; i++) {
    const value = (grey[i] - black) * gain;
    pixels[i] = table[(labels[i] << 8) | (value < 0 ? 0 : value > 255 ? 255 : value)];
  }
}

// How many pixels have which pair of labels.
function countPairs(labels) {
  const counts = new Uint32Array(256);
  for (let i = 0; i < labels.length; i++) counts[labels[i]]++;
  return new Map([...counts.entries()].filter(([, some]) => some));
}

// The outer half per cent of the grey values saturates on each side.
function automaticWindow({ grey }) {
  const step = Math.max(1, Math.floor(grey.length / 50000)), sample = grey.filter((_, i) => i % step === 0).sort();
  const [black, white] = [0.005, 0.995].map((share) => sample[Math.round(share * (sample.length - 1))]);
  return [black, white > black ? white : black + 1];
}

function agreementWords({ pairs, labels }, phases) {
  const wrong = [...pairs].filter(([pair]) => (pair & 15) !== pair >> 4).sort((a, b) => b[1] - a[1]);
  const right = 1 - wrong.reduce((sum, [, some]) => sum + some, 0) / labels.length;
  const agree = `${(100 * right).toFixed(2)} % of the pixels agree`;
  if (!wrong.length) return agree;
  const [pair, most] = wrong[0], [predicted, truth] = [phases[pair >> 4].name, phases[pair & 15].name];
  return `${agree}; most often wrong: ${predicted} predicted, ${truth} true (${percent(most / labels.length)})`;
}

function placeWords({ plane, index }, [row, column], voxel) {
  const [down, right] = ACROSS[plane], at = { [WALKED[plane]]: index, [down]: row, [right]: column };
  const inAll = (words) => ["z", "y", "x"].map(words).join(", ");
  const microns = voxel ? `${inAll((axis) => (at[axis] * voxel).toFixed(1))} µm` : "voxel size unknown";
  return [inAll((axis) => `${axis} ${at[axis]}`), microns];
}

function helpTable() {
  const lines = HELP.flatMap(([keys, what]) => [make("dt", {}, keys), make("dd", {}, what)]);
  return make("details", {}, make("summary", {}, "keys"), make("dl", {}, ...lines));
}

function render({ model, el }) {
  const { shape, voxel_size_um: voxel, layers, labels, phases } = model.get("scene");
  const axisLength = (axis) => shape["zyx".indexOf(axis)], colours = phases.map((phase) => rgb(phase.colour));
  const root = begin(el, "compare"), along = () => WALKED[model.get("plane")], position = () => model.get(along());
  let slice = null, range = null;

  const { put, end } = state(model);
  const step = (index) => put({ [along()]: clamp(index, 0, axisLength(along()) - 1) });
  const toggled = (all, shown, name) => all.filter((other) => (other === name) !== shown.includes(other));
  const toggleLayer = (name) => {
    const left = toggled(layers, model.get("layers"), name);
    if (left.length) put({ layers: left });
  };
  const togglePhase = (name) => put({ phases: toggled(phases.map((phase) => phase.name), model.get("phases"), name) });
  const automatic = () => slice && put({ window: automaticWindow(slice) });

  const pictures = new Pictures("Slices; arrow keys step, Shift with arrows moves the cursor", voxel, {
    paint: (name, rgba) => slice && paintLayer(name, slice, rgba, model.get("window"), {
      opacity: model.get("opacity"), colours, visible: phases.map((phase) => model.get("phases").includes(phase.name)),
    }),
    point: (cursor, aloud) => read(cursor, aloud),
    key: (event) => {
      const key = event.key.toLowerCase(), layer = LAYER_KEYS[key], phase = ["m", "s", "a"].indexOf(key);
      if (event.key in STEP_KEYS) step(position() + STEP_KEYS[event.key]);
      else if ("123".includes(key)) put({ plane: ["xy", "xz", "yz"][key - 1] });
      else if (layers.includes(layer)) event.shiftKey ? toggleLayer(layer) : put({ layers: [layer] });
      else if (phase >= 0) togglePhase(phases[phase].name);
      else if (key === "[") put({ opacity: clamp(model.get("opacity") - 0.1, 0, 1) });
      else if (key === "]") put({ opacity: clamp(model.get("opacity") + 0.1, 0, 1) });
      else if (key === "w") automatic();
      else return false;
      return true;
    },
  });

  root.addEventListener("keydown", (event) => { // letters also while a button or slider has the focus
    const isLetter = event.key.length === 1 && event.key !== " ";
    if (isLetter && !event.target.matches("input[type=number]")) pictures.pressed(event);
  });

  const planeButtons = Object.keys(WALKED).map((plane) =>
    button(plane, `plane-${plane}`, `plane ${plane}, slices along ${WALKED[plane]}`, () => put({ plane })));
  const layerButtons = layers.map((layer) =>
    button(layer, `layer-${layer}`, `show or hide: ${layer}`, () => toggleLayer(layer)));
  const slices = slider("slice", "slice", { min: 0, max: 1, step: 1, input: step });
  slices.range.addEventListener("keydown", (event) => { // as on the pictures, and the same in every browser
    const steps = { PageUp: 10, PageDown: -10 }[event.key];
    if (steps) { event.preventDefault(); step(position() + steps); }
  });
  const opacity = slider("opacity", "opacity", {
    min: 0, max: 1, step: 0.05, input: (value) => put({ opacity: value }),
  });
  const auto = button("auto", "window-auto", "window from this slice: the outer half per cent saturates", automatic);
  const least = (grey) => (slice?.whole ? 1 : 1e-6 + Math.abs(grey) * 1e-6); // black and white may not be the same
  const greys = rangeSlider("grey window", "window", ["black", "white"], ([black, white], n) => {
    if (black < white) put({ window: [black, white] });
    else put({ window: n ? [black, black + least(black)] : [white - least(white), white] });
  }, auto);
  const boxes = phases.map(({ name }) => make("input", {
    type: "checkbox", testid: `phase-${name}`, "aria-label": `show ${name}`, change: () => togglePhase(name),
  }));
  const shares = phases.map(() => labels.map(() => make("td"))); // of the pixels of the slice
  const legend = labels.length ? make("table", { class: "alsiseg-legend", testid: "legend" },
    make("tr", {}, make("th", {}, "in this slice"), ...labels.map((name) => make("th", {}, name))),
    ...phases.map((phase, n) => make("tr", {}, make("td", {},
      make("label", {}, boxes[n], make("i", { style: `background: ${phase.colour}` }), phase.name)), ...shares[n])),
    labels.length === 2 ? make("tr", {}, make("td", {}, make("i", { class: "alsiseg-wrong" }), "wrong")) : "") : "";
  const readout = readOut({
    position: "position", um: "", grey: "grey", ...Object.fromEntries(labels.map((name) => [name, name])),
    ...(labels.length === 2 && { verdict: "" }),
  });
  const agreement = make("p", { testid: "agreement" });
  const status = make("p", { class: "alsiseg-status", testid: "status", role: "status" });
  const group = (label, ...buttons) =>
    make("div", { class: "alsiseg-group", role: "group", "aria-label": label }, ...buttons);
  const zooms = [
    button("+", "zoom-in", "zoom in", () => pictures.zoomBy(1.5)),
    button("−", "zoom-out", "zoom out", () => pictures.zoomBy(1 / 1.5)),
    button("fit", "zoom-fit", "show all of the slice", () => { pictures.fit(); pictures.redraw(); }),
  ];
  root.append(
    make("div", { class: "alsiseg-main" },
      make("div", { class: "alsiseg-bar" }, group("plane", ...planeButtons), group("layers", ...layerButtons),
        group("zoom", ...zooms)),
      pictures.element, slices.element, status),
    make("div", { class: "alsiseg-aside" }, readout.element, legend, agreement,
      labels.length ? opacity.element : "", greys.element, helpTable()),
  );

  function read(cursor, aloud) {
    if (!cursor || !slice) return readout.set(null, aloud);
    const i = cursor[0] * slice.size[1] + cursor[1];
    const found = labels.map((_, n) => phases[(slice.labels[i] >> (4 * n)) & 15].name);
    const verdict = found[0] === found[1] ? "agree" : `wrong: ${found[1]} predicted, ${found[0]} true`;
    readout.set([...placeWords(slice, cursor, voxel), short(slice.grey[i]), ...found, verdict], aloud);
  }
  function count() {
    shares.forEach((cells, phase) => cells.forEach((cell, n) => {
      let n_pixels = 0;
      for (const [pair, some] of slice.pairs) n_pixels += ((pair >> (4 * n)) & 15) === phase ? some : 0;
      renew(cell, { textContent: percent(n_pixels / slice.labels.length) });
    }));
    if (labels.length === 2) renew(agreement, { textContent: agreementWords(slice, phases) });
  }
  function window_() {
    if (!slice) return;
    const low_high = model.get("window"), [low, high] = slice.extent;
    range = range ? [Math.min(range[0], low), Math.max(range[1], high)] : [low, high];
    const bounds = [Math.min(range[0], low_high[0]), Math.max(range[1], low_high[1])];
    greys.set(low_high, bounds, slice.whole, histogram(slice.grey, bounds));
  }
  function press() {
    planeButtons.forEach((one) => one.setAttribute("aria-pressed", one.textContent === model.get("plane")));
    layerButtons.forEach((one) => one.setAttribute("aria-pressed", model.get("layers").includes(one.textContent)));
    boxes.forEach((box, n) => { box.checked = model.get("phases").includes(phases[n].name); });
    opacity.set(model.get("opacity"), percent(model.get("opacity")).replace(".0", ""));
  }
  function walk() {
    const n_slices = axisLength(along()), index = position(), um = voxel ? `, ${(index * voxel).toFixed(1)} µm` : "";
    renew(slices.range, { max: n_slices - 1 });
    slices.set(index, `${index + 1} of ${n_slices} (${along()} ${index}${um})`);
    reader.want(model.get("plane"), index);
  }
  const told = (words, wrong = false) => {
    renew(status, { textContent: words });
    status.classList.toggle("alsiseg-error", wrong);
  };
  const reader = new Slices(model, { xy: shape[0], xz: shape[1], yz: shape[2] }, {
    told,
    shown: (answer) => {
      if (slice?.plane !== answer.plane) pictures.fit();
      slice = answer;
      slice.second = labels.length === 2;
      if (pictures.size.join() !== slice.size.join()) {
        pictures.cursor = null;
        pictures.arrange(slice.size);
      }
      told("");
      count(); window_(); read(pictures.cursor);
      pictures.repaint();
      Object.assign(root.dataset, { shownPlane: slice.plane, shownIndex: slice.index });
    },
  });

  const listeners = {
    "change:plane": () => { press(); walk(); }, "change:z": walk, "change:y": walk, "change:x": walk,
    "change:layers": () => { press(); pictures.show(model.get("layers")); },
    "change:phases": () => { press(); pictures.repaint(); }, "change:opacity": () => { press(); pictures.repaint(); },
    "change:window": () => { window_(); pictures.repaint(); },
  };
  for (const [name, hear] of Object.entries(listeners)) model.on(name, hear);
  press(); read(null); pictures.size = shape.slice(1); pictures.show(model.get("layers")); walk();
  return () => {
    for (const [name, hear] of Object.entries(listeners)) model.off(name, hear);
    end();
    reader.end();
    pictures.observer.disconnect();
  };
}

export default { render };
