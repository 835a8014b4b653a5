// The weights of the loss: every pixel's region comes from Python once, the map is drawn here.

const REGIONS = ["α-Al matrix, aluminides away from silicon", "silicon away from aluminides", "interface of both"];

function render({ model, el }) {
  const { rows, columns, range, settings, colours, phases } = model.get("scene");
  const NAMES = ["matrix", "silicon", "interface"], root = begin(el, "weights");
  const pixels = typed("uint8", model.get("pixels")), phaseColours = phases.map((phase) => rgb(phase.colour));
  const regions = pixels.map((pixel) => Math.min(pixel >> 4, 2)); // 3 is interface in silicon
  const counts = NAMES.map((_, region) => regions.reduce((sum, one) => sum + (one === region), 0));
  const weights = () => NAMES.map((name) => model.get(name));
  const { put, end } = state(model);
  const tint = (weight) => colours[Math.round(255 * clamp((weight - range[0]) / (range[1] - range[0]), 0, 1))];

  const readout = readOut({ position: "position", target: "target", region: "region", weight: "weight" });
  const pictures = new Pictures("Target and weight map; Shift with arrows moves the cursor", null, {
    paint: (name, rgba) => {
      const table = name === "target" ? phaseColours : weights().map(tint);
      for (let i = 0, at = 0; i < pixels.length; i++, at += 4) {
        const colour = table[name === "target" ? pixels[i] & 15 : regions[i]];
        rgba[at] = colour[0]; rgba[at + 1] = colour[1]; rgba[at + 2] = colour[2]; rgba[at + 3] = 255;
      }
    },
    point: (cursor, aloud) => read(cursor, aloud),
    key: () => false,
  });
  const sliders = NAMES.map((name) => slider(name, `weight-${name}`, {
    min: range[0], max: range[1], step: 0.05, input: (value) => put({ [name]: value }),
  }));
  const presets = settings.map((setting) => {
    const words = setting.join(", "), chosen = Object.fromEntries(NAMES.map((name, n) => [name, setting[n]]));
    return button(words, `setting-${setting.join("-")}`, `the paper's setting ${words}`, () => put(chosen));
  });
  const table = make("table", { class: "alsiseg-legend", testid: "regions" });
  const mean = make("p", { testid: "mean-weight" });
  const gradient = `background: linear-gradient(to right, ${colours.map((colour) => `rgb(${colour})`).join()})`;
  const bar = make("div", {
    class: "alsiseg-colours", role: "img", "aria-label": `colours from weight ${range[0]} to ${range[1]}`,
  }, make("span", {}, short(range[0])), make("i", { style: gradient }), make("span", {}, short(range[1])));
  root.append(make("div", { class: "alsiseg-main" }, pictures.element, table, mean),
    make("div", { class: "alsiseg-aside" }, ...sliders.map((one) => one.element),
      make("div", { class: "alsiseg-bar" },
        make("div", { class: "alsiseg-group", role: "group", "aria-label": "settings of the paper" }, ...presets)),
      bar, readout.element));

  function read(cursor, aloud) {
    if (!cursor) return readout.set(null, aloud);
    const i = cursor[0] * columns + cursor[1], region = regions[i];
    const words = [phases[pixels[i] & 15].name, REGIONS[region], short(weights()[region])];
    readout.set([`y ${cursor[0]}, x ${cursor[1]}`, ...words], aloud);
  }
  function update() {
    const now = weights(), total = counts.reduce((sum, some, n) => sum + some * now[n], 0);
    sliders.forEach((one, n) => one.set(now[n], now[n].toFixed(2)));
    presets.forEach((one, n) => {
      one.setAttribute("aria-pressed", settings[n].every((weight, at) => Math.abs(weight - now[at]) < 1e-9));
    });
    const head = ["region", "pixels", "weight", "of the loss"].map((words) => make("th", {}, words));
    const lines = REGIONS.map((region, n) => {
      const shares = [percent(counts[n] / pixels.length), now[n].toFixed(2), percent((counts[n] * now[n]) / total)];
      const swatch = make("i", { style: `background: rgb(${tint(now[n])})` });
      return make("tr", {}, make("td", {}, swatch, region), ...shares.map((words) => make("td", {}, words)));
    });
    table.replaceChildren(make("tr", {}, ...head), ...lines);
    mean.textContent = `mean weight ${(total / pixels.length).toFixed(3)}; ` +
      "“of the loss” is the share of the loss if all pixels were equally wrong";
    read(pictures.cursor);
    pictures.repaint();
  }
  pictures.size = [rows, columns];
  pictures.show(["target", "weights"]);
  const changes = NAMES.map((name) => `change:${name}`);
  for (const change of changes) model.on(change, update);
  update();
  el.classList.add("alsiseg-live");
  return () => {
    end();
    for (const change of changes) model.off(change, update);
    pictures.observer.disconnect();
  };
}

export default { render };
