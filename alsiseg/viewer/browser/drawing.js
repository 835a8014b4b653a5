// Pictures of a slice, from its grey values and labels, and what can be said of it in numbers.

const WALKED = { xy: "z", xz: "y", yz: "x" }; // the axis that the slice slider walks along
const ACROSS = { xy: ["y", "x"], xz: ["z", "x"], yz: ["z", "y"] }; // rows and columns of the picture
const WRONG = [0, 0, 0];

// Colours of one layer, as figures.overlay_picture and figures.difference_picture draw them, looked up by the
// labels (truth in the lower, prediction in the upper four bits when there are both) and the grey value 0 to 255.
function colourTable(layer, { opacity, colours, visible, two }) {
  const table = new Uint8ClampedArray(4 * 65536), shift = layer === "prediction" && two ? 4 : 0;
  const numbers = colours.map((_, phase) => phase), second = two ? numbers : [0];
  for (const pair of second.flatMap((upper) => numbers.map((lower) => (upper << 4) | lower))) {
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
  }
  return new Uint32Array(table.buffer);
}

// Draws layers of slices; what they share, the windowed grey values, is worked out once for all of them.
class Painter {
  constructor() { Object.assign(this, { slice: null, window: [], tables: new Map(), places: new Uint16Array(0) }); }
  recolour() { this.tables.clear(); } // when opacity or visible phases have changed
  paint(layer, slice, rgba, window, looks) {
    this.place(slice, window);
    if (!this.tables.has(layer)) this.tables.set(layer, colourTable(layer, looks()));
    const pixels = new Uint32Array(rgba.buffer), table = this.tables.get(layer), { places } = this;
    for (let i = 0; i < places.length; i++) pixels[i] = table[places[i]];
  }
  place(slice, window) { // where in the tables every pixel finds its colour
    if (slice === this.slice && String(window) === String(this.window)) return;
    const { grey, labels } = slice, [black, white] = window, gain = 255 / (white - black);
    if (this.places.length !== grey.length) this.places = new Uint16Array(grey.length);
    const { places } = this;
    for (let i = 0; i < grey.length; i++) {
      const value = (grey[i] - black) * gain;
      places[i] = (labels[i] << 8) | (value < 0 ? 0 : value > 255 ? 255 : value);
    }
    Object.assign(this, { slice, window });
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
