// What the three widgets share: controls, and pictures that zoom, move and point together.
// Python puts this file before that of a widget. No build step, nothing from the network.

const TALLEST_PX = 520; // of a picture on the screen
const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
const rgb = (colour) => [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
const percent = (share) => `${(100 * share).toFixed(share > 0 && share < 0.0995 ? 2 : 1)} %`;
const short = (value) => String(Number(value.toPrecision(5)));
const ARRAYS = {
  int8: Int8Array, uint8: Uint8Array, int16: Int16Array, uint16: Uint16Array, int32: Int32Array, uint32: Uint32Array,
  float32: Float32Array, float64: Float64Array,
};
function typed(dtype, { buffer, byteOffset, byteLength }) {
  const type = ARRAYS[dtype], n_bytes = type.BYTES_PER_ELEMENT;
  if (byteOffset % n_bytes === 0) return new type(buffer, byteOffset, byteLength / n_bytes);
  return new type(buffer.slice(byteOffset, byteOffset + byteLength)); // a number must start at a multiple of its size
}

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name, value);
    else if (name === "testid") element.dataset.testid = value;
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

function button(text, testid, title, click) {
  return make("button", { type: "button", testid, title, "aria-pressed": "false", click }, text);
}

// Sets what differs: a browser lays out anew whatever is set.
function renew(element, state) {
  for (const [name, value] of Object.entries(state)) {
    if (String(element[name]) !== String(value)) element[name] = value;
  }
}

// Names with words beside them that change with what lies under the cursor.
function readOut(names) {
  const words = Object.keys(names).map((key) => make("b", { testid: `readout-${key}` }, "–"));
  const element = make("div", {
    class: "alsiseg-readout", testid: "readout", role: "status", "aria-live": "off", "aria-label": "under the cursor",
  }, ...Object.values(names).flatMap((name, n) => [make("span", {}, name), words[n]]));
  const set = (values, aloud) => {
    element.setAttribute("aria-live", aloud ? "polite" : "off");
    words.forEach((word, n) => renew(word, { textContent: values?.[n] ?? "–" }));
  };
  return { element, set };
}

// State of the widget, changed here at once and told to Python when the hand rests. Until then Python may still
// repeat what it was told before: that is not to undo what the hand has done since.
function state(model) {
  let saving = 0, untold = {};
  const insist = () => {
    const undone = Object.fromEntries(Object.entries(untold).filter(([name, value]) => model.get(name) !== value));
    if (Object.keys(undone).length) model.set(undone);
  };
  const save = () => { clearTimeout(saving); saving = 0; untold = {}; model.save_changes(); };
  const put = (changed) => {
    untold = { ...untold, ...changed };
    model.set(changed);
    clearTimeout(saving);
    saving = setTimeout(save, 120);
  };
  model.on("change", insist);
  return { put, end: () => { model.off("change", insist); if (saving) save(); } };
}

function slider(label, testid, { min, max, step, input }) {
  const range = make("input", { type: "range", testid, min, max, step, "aria-label": label });
  const words = make("output", { testid: `${testid}-words` });
  range.addEventListener("input", () => input(Number(range.value)));
  const set = (value, text) => {
    renew(range, { value, ariaValueText: text });
    renew(words, { textContent: text });
  };
  return { range, set, element: make("label", { class: "alsiseg-row" }, make("span", {}, label), range, words) };
}

// Two thumbs under a histogram, and the two values as numbers.
function rangeSlider(label, testid, names, input, ...between) {
  const canvas = make("canvas", { class: "alsiseg-histogram", width: 200, height: 40, "aria-hidden": "true" });
  let current = [0, 1];
  const bounds = names.map((name, n) => {
    const end = ["low", "high"][n];
    const changed = (event) => {
      const value = Number(event.target.value);
      if (event.target.value !== "" && Number.isFinite(value)) input(n ? [current[0], value] : [value, current[1]], n);
    };
    const named = { "aria-label": `${label}, ${name}` };
    return {
      range: make("input", { type: "range", testid: `${testid}-${end}`, input: changed, ...named }),
      number: make("input", {
        type: "number", step: "any", testid: `${testid}-${end}-number`, change: changed, ...named,
      }),
    };
  });
  const row = (...children) => make("div", { class: "alsiseg-row alsiseg-ends" }, ...children);
  const element = make("div", { class: "alsiseg-range", role: "group", "aria-label": label },
    row(...[names[0], label, names[1]].map((words) => make("span", {}, words))), canvas,
    make("div", { class: "alsiseg-thumbs" }, ...bounds.map((bound) => bound.range)),
    row(bounds[0].number, ...between, bounds[1].number));
  function set([low, high], [min, max], whole, counts) {
    current = [low, high];
    bounds.forEach(({ range, number }, n) => {
      const value = current[n];
      renew(range, { min, max, step: whole ? 1 : (max - min) / 1000, value, ariaValueText: short(value) });
      if (document.activeElement !== number || Number(number.value) !== value) renew(number, { value: short(value) });
    });
    const context = canvas.getContext("2d"), wide = canvas.width / counts.length;
    const highest = Math.sqrt(Math.max(1, ...counts));
    context.clearRect(0, 0, canvas.width, canvas.height);
    counts.forEach((count, bin) => {
      const grey = min + ((bin + 0.5) / counts.length) * (max - min);
      const tall = (Math.sqrt(count) / highest) * canvas.height;
      context.fillStyle = grey >= low && grey <= high ? "#1976d2" : "#9e9e9e";
      context.fillRect(bin * wide, canvas.height - tall, wide - 0.5, tall);
    });
  }
  return { element, set };
}

function histogram(values, [min, max], n_bins = 64) {
  const counts = new Array(n_bins).fill(0), scale = n_bins / Math.max(max - min, 1e-12);
  const step = Math.max(1, Math.floor(values.length / 65536));
  for (let i = 0; i < values.length; i += step) counts[clamp(Math.floor((values[i] - min) * scale), 0, n_bins - 1)]++;
  return counts;
}

function extent(values) {
  let min = Infinity, max = -Infinity;
  for (let i = 0; i < values.length; i++) {
    if (values[i] < min) min = values[i];
    if (values[i] > max) max = values[i];
  }
  return [min, max > min ? max : min + 1];
}

// Pictures side by side that zoom, move and point together; `paint(name, rgba)` fills the pixels of one.
class Pictures {
  constructor(label, voxel_um, { paint, point, key }) {
    Object.assign(this, { voxel_um, paint, point, key });
    Object.assign(this, { panels: [], size: [1, 1], cursor: null, stale: false, frame: 0 });
    this.fit();
    this.element = make("div", {
      class: "alsiseg-pictures", testid: "pictures", tabindex: 0, role: "application", "aria-label": label,
      keydown: (event) => this.pressed(event),
    });
    this.observer = new ResizeObserver(() => this.redraw());
    this.observer.observe(this.element);
  }
  fit() { Object.assign(this, { zoom: 1, centre: [0.5, 0.5] }); }
  show(names) {
    this.panels = names.map((name) => {
      const canvas = make("canvas", { testid: "picture", "data-layer": name, role: "img", "aria-label": name });
      this.listen(canvas);
      return { name, canvas, bitmap: document.createElement("canvas") };
    });
    this.element.replaceChildren(...this.panels.map((panel) =>
      make("figure", {}, make("figcaption", {}, panel.name), panel.canvas)));
    this.arrange(this.size);
  }
  arrange([rows, columns]) { // side by side, four in a square, flat ones below each other
    this.size = [rows, columns];
    const n = this.panels.length, abreast = columns > 2.5 * rows ? 1 : n === 4 ? 2 : n;
    this.element.style.gridTemplateColumns = `repeat(${abreast}, minmax(0, 1fr))`;
    for (const { canvas } of this.panels) { // no wider than the slice: nothing is left empty at its sides
      Object.assign(canvas.style, { aspectRatio: `${columns} / ${rows}`, maxWidth: `${(TALLEST_PX * columns) / rows}px` });
    }
    this.repaint();
  }
  scale(canvas) {
    return Math.min(canvas.clientWidth / this.size[1], canvas.clientHeight / this.size[0]) * this.zoom;
  }
  repaint() { this.stale = true; this.redraw(); }
  redraw() { this.frame ||= requestAnimationFrame(() => { this.frame = 0; this.draw(); }); }
  draw() {
    const [rows, columns] = this.size, ratio = window.devicePixelRatio || 1;
    this.panels.forEach((panel, n) => {
      const { name, canvas, bitmap } = panel;
      if (this.stale) {
        if (panel.image?.width !== columns || panel.image.height !== rows) {
          Object.assign(bitmap, { width: columns, height: rows });
          panel.image = new ImageData(columns, rows);
        }
        this.paint(name, panel.image.data);
        bitmap.getContext("2d", { willReadFrequently: true }).putImageData(panel.image, 0, 0);
      }
      const width = Math.round(canvas.clientWidth * ratio), height = Math.round(canvas.clientHeight * ratio);
      if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
      const context = canvas.getContext("2d"), scale = this.scale(canvas) * ratio;
      context.setTransform(1, 0, 0, 1, 0, 0);
      context.clearRect(0, 0, width, height);
      const left = width / 2 - this.centre[1] * columns * scale, top = height / 2 - this.centre[0] * rows * scale;
      context.setTransform(scale, 0, 0, scale, left, top);
      context.imageSmoothingEnabled = scale < 1;
      context.drawImage(bitmap, 0, 0);
      if (this.cursor) {
        const edge = Math.max(1, (9 * ratio) / scale), [row, column] = this.cursor.map((at) => at + 0.5 - edge / 2);
        for (const [colour, wide] of [["black", 3], ["#ffb000", 1.5]]) {
          Object.assign(context, { strokeStyle: colour, lineWidth: (wide * ratio) / scale });
          context.strokeRect(column, row, edge, edge);
        }
      }
      context.setTransform(ratio, 0, 0, ratio, 0, 0);
      if (n === 0) this.scaleBar(context, canvas);
    });
    this.stale = false;
  }
  scaleBar(context, canvas) {
    const unit = this.voxel_um || 1, scale = this.scale(canvas) / unit;
    const longest = Math.max(0.32 * Math.min(canvas.clientWidth, this.size[1] * scale * unit) / scale, unit);
    const power = 10 ** Math.floor(Math.log10(longest));
    const length = [5, 2, 1].find((step) => step * power <= longest * 1.000001) * power;
    const wide = length * scale, x = canvas.clientWidth - 10 - wide, y = canvas.clientHeight - 14;
    context.fillStyle = "white"; context.strokeStyle = "black"; context.lineWidth = 1;
    context.fillRect(x, y, wide, 5); context.strokeRect(x, y, wide, 5);
    Object.assign(context, { font: "600 12px system-ui, sans-serif", textAlign: "right", lineWidth: 3 });
    context.lineJoin = "round";
    const words = `${short(length)} ${this.voxel_um ? "µm" : length === 1 ? "pixel" : "pixels"}`;
    context.strokeText(words, x + wide, y - 5);
    context.fillText(words, x + wide, y - 5);
    canvas.dataset.scaleBar = words;
  }
  under(canvas, event) {
    const scale = this.scale(canvas), [rows, columns] = this.size;
    const row = Math.floor((event.offsetY - canvas.clientHeight / 2) / scale + this.centre[0] * rows);
    const column = Math.floor((event.offsetX - canvas.clientWidth / 2) / scale + this.centre[1] * columns);
    return row >= 0 && row < rows && column >= 0 && column < columns ? [row, column] : null;
  }
  look(cursor, aloud = false) { this.cursor = cursor; this.point(cursor, aloud); this.redraw(); }
  move(rows, columns) {
    this.centre = [rows, columns].map((step, axis) => clamp(this.centre[axis] + step / this.size[axis], 0, 1));
    this.redraw();
  }
  zoomBy(factor, canvas = this.panels[0].canvas, event = null) {
    const x = event ? event.offsetX - canvas.clientWidth / 2 : 0;
    const y = event ? event.offsetY - canvas.clientHeight / 2 : 0;
    const before = this.scale(canvas);
    this.zoom = clamp(this.zoom * factor, 1, 64);
    const after = this.scale(canvas);
    this.move(y / before - y / after, x / before - x / after); // what lies under the pointer stays there
    if (this.zoom === 1) this.fit();
  }
  listen(canvas) {
    let dragged = null;
    canvas.addEventListener("pointerdown", (event) => {
      this.element.focus({ preventScroll: true });
      dragged = [event.clientY, event.clientX];
      canvas.setPointerCapture(event.pointerId);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (dragged && event.buttons) {
        const scale = this.scale(canvas);
        this.move((dragged[0] - event.clientY) / scale, (dragged[1] - event.clientX) / scale);
        dragged = [event.clientY, event.clientX];
      }
      this.look(this.under(canvas, event));
    });
    canvas.addEventListener("pointerup", () => { dragged = null; });
    canvas.addEventListener("pointerleave", () => this.look(null));
    canvas.addEventListener("dblclick", () => { this.fit(); this.redraw(); });
    canvas.addEventListener("wheel", (event) => {
      if (!event.ctrlKey && document.activeElement !== this.element) return; // the page scrolls on
      event.preventDefault();
      this.zoomBy(1.0015 ** -event.deltaY, canvas, event);
    }, { passive: false });
  }
  pressed(event) {
    const arrow = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    let used = true;
    if (event.ctrlKey || event.metaKey || event.altKey) used = false;
    else if (arrow && event.shiftKey) {
      const [row, column] = this.cursor || this.size.map((n) => Math.floor(n / 2));
      this.look([clamp(row + arrow[0], 0, this.size[0] - 1), clamp(column + arrow[1], 0, this.size[1] - 1)], true);
    } else if (event.key === "+" || event.key === "=") this.zoomBy(1.5);
    else if (event.key === "-" || event.key === "−") this.zoomBy(1 / 1.5);
    else if (event.key === "0") { this.fit(); this.redraw(); }
    else used = this.key(event);
    if (used) { event.preventDefault(); event.stopPropagation(); }
  }
}

// Keys belong to the widget while it has the focus (Jupyter would cut cells with them), except with Ctrl or Cmd.
function begin(el, kind) {
  const root = make("div", { class: "alsiseg-widget" });
  const own = (event) => event.target.toggleAttribute("data-lm-suppress-shortcuts", !(event.ctrlKey || event.metaKey));
  for (const name of ["focusin", "keydown", "keyup"]) root.addEventListener(name, own);
  el.classList.add(`alsiseg-${kind}`);
  el.append(root);
  return root;
}
