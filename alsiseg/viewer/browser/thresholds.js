// Two thresholds: the grey values come from Python once, the pixels between are marked here.

function render({ model, el }) {
  const { rows, columns, dtype, window: [black, white], phase, phases } = model.get("scene");
  const root = begin(el, "thresholds"), grey = typed(dtype, model.get("pixels")), colour = rgb(phases[phase].colour);
  const between = () => [model.get("low"), model.get("high")], bounds = extent(grey);
  const counts = histogram(grey, bounds, 100), whole = dtype.includes("int");
  const { put, end } = state(model);

  const readout = readOut({ position: "position", grey: "grey", "counts-as": "counts as" });
  const pictures = new Pictures("Scan and marked pixels; Shift with arrows moves the cursor", null, {
    paint: (name, rgba) => {
      const [low, high] = between(), gain = 255 / (white - black);
      for (let i = 0, at = 0; i < grey.length; i++, at += 4) {
        const value = clamp((grey[i] - black) * gain, 0, 255);
        const part = name !== "scan" && grey[i] >= low && grey[i] <= high ? 0.6 : 0;
        for (let c = 0; c < 3; c++) rgba[at + c] = value + (colour[c] - value) * part;
        rgba[at + 3] = 255;
      }
    },
    point: (cursor, aloud) => read(cursor, aloud),
    key: () => false,
  });
  const ends = rangeSlider("grey value", "threshold", ["low", "high"],
    ([low, high], n) => put(n ? { low: Math.min(low, high), high } : { low, high: Math.max(low, high) }));
  const share = make("p", { testid: "share" });
  root.append(make("div", { class: "alsiseg-main" }, pictures.element),
    make("div", { class: "alsiseg-aside" }, ends.element, share, readout.element));

  function read(cursor, aloud) {
    if (!cursor) return readout.set(null, aloud);
    const value = grey[cursor[0] * columns + cursor[1]], [low, high] = between();
    const counted = value >= low && value <= high ? phases[phase].name : "not marked";
    readout.set([`y ${cursor[0]}, x ${cursor[1]}`, short(value), counted], aloud);
  }
  function update() {
    const [low, high] = between();
    let marked = 0;
    for (const value of grey) marked += value >= low && value <= high;
    ends.set([low, high], [Math.min(bounds[0], low), Math.max(bounds[1], high)], whole, counts);
    const words = `${percent(marked / grey.length)} of the pixels lie between and count as ${phases[phase].name}`;
    share.replaceChildren(make("i", { style: `background: ${phases[phase].colour}` }), words);
    read(pictures.cursor);
    pictures.repaint();
  }
  pictures.size = [rows, columns];
  pictures.show(["scan", "marked"]);
  model.on("change:low", update);
  model.on("change:high", update);
  update();
  el.classList.add("alsiseg-live");
  return () => {
    end();
    model.off("change:low", update);
    model.off("change:high", update);
    pictures.observer.disconnect();
  };
}

export default { render };
