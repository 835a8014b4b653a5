// The slices that the browser has and asks Python for. The one looked at comes first; then those that follow in the
// direction of travel, several in one message, as every message costs server and page more than its bytes.

const KEPT_BYTES = 64 * 2 ** 20; // of slices seen before
const AHEAD = 8; // so many slices are to be here before the hand reaches them
const BATCH = { slices: 4, bytes: 4 * 2 ** 20 }; // at most in one message
const WAITING_MS = 1500; // after which the user hears what is waited for
const BUSY = "Waiting for Python: another cell may be running, or the kernel may have ended.";

const keyOf = (plane, index) => `${plane} ${index}`;

// At most one question is under way. One for the slice looked at takes the place of one for what may follow.
class Slices {
  constructor(model, lengths, { shown, told }) {
    Object.assign(this, { model, lengths, shown, told, kept: new Map(), declined: new Set() });
    Object.assign(this, { wanted: null, asked: null, onScreen: null, step: 0, sliceBytes: 1, waiting: 0 });
    this.hear = (message, buffers) => this.heard(message, buffers);
    model.on("msg:custom", this.hear);
  }
  want(plane, index) {
    const key = keyOf(plane, index);
    this.step = this.wanted?.plane === plane ? Math.sign(index - this.wanted.index) || this.step : 0;
    this.wanted = { plane, index, key };
    const slice = this.kept.get(key);
    if (slice) this.show(slice);
    this.goOn();
  }
  show(slice) {
    clearTimeout(this.waiting);
    this.keep(slice); // as the last one to be forgotten
    this.onScreen = slice.key;
    slice.pairs ??= countPairs(slice.labels);
    slice.extent ??= extent(slice.grey);
    this.shown(slice);
  }
  wait() {
    clearTimeout(this.waiting);
    this.waiting = setTimeout(() => this.told(BUSY), WAITING_MS);
  }
  goOn() { // asks for what is missing most
    const { asked, wanted } = this, isHere = this.onScreen === wanted.key;
    if (isHere) {
      if (!asked && this.step) this.askAhead();
      return;
    }
    this.wait();
    const isComing = asked?.plane === wanted.plane && (!asked.ahead || asked.indices.includes(wanted.index));
    if (!isComing) this.ask(wanted.plane, [wanted.index], false);
  }
  askAhead() {
    const { plane, index } = this.wanted, many = Math.floor(BATCH.bytes / this.sliceBytes);
    const n = clamp(many, 1, BATCH.slices), all = Array.from({ length: AHEAD }, (_, i) => index + (i + 1) * this.step);
    const missing = all.filter((i) => i >= 0 && i < this.lengths[plane])
      .filter((i) => !this.kept.has(keyOf(plane, i)) && !this.declined.has(keyOf(plane, i)));
    if (!missing.length) return;
    const isSoon = Math.abs(missing[0] - index) <= n;
    if (isSoon || missing.length >= n) this.ask(plane, missing.slice(0, n), true);
  }
  ask(plane, indices, ahead) {
    this.asked = { plane, indices, ahead };
    try {
      this.model.send({ type: "slices", plane, indices, ahead });
    } catch {
      clearTimeout(this.waiting);
      this.told("Run the cell again to move through the slices.");
    }
  }
  heard(message, buffers) {
    if (message.type === "slices") this.answered(message, buffers);
    else if (message.type === "progress" && this.asked?.plane === message.plane) this.onTheWay(message);
    else if (message.type === "error") {
      clearTimeout(this.waiting);
      this.asked = null;
      this.told(message.text, true);
    }
  }
  onTheWay({ plane, done, left_s }) {
    clearTimeout(this.waiting);
    const left = left_s < 90 ? `${Math.ceil(left_s)} s` : `${Math.ceil(left_s / 60)} min`;
    const words = `${Math.floor(100 * done)} %, ${left} left`;
    this.told(`Reading through the file for plane ${plane}: ${words}. Another plane stops it.`);
  }
  answered({ plane, indices, ahead, rows, columns, dtype }, buffers) {
    const each = buffers.length / indices.length;
    indices.forEach((index, n) => {
      const grey = typed(dtype, buffers[n * each]), whole = dtype.includes("int");
      const labels = each > 1 ? typed("uint8", buffers[n * each + 1]) : new Uint8Array(grey.length);
      this.keep({ key: keyOf(plane, index), plane, index, size: [rows, columns], grey, labels, whole });
    });
    const { asked, wanted } = this, isSamePlane = asked?.plane === plane && asked.ahead === ahead;
    const isAnswer = isSamePlane && (ahead || asked.indices[0] === indices[0]);
    if (isAnswer) this.settle(asked, indices);
    const looked = this.kept.get(wanted.key);
    if (looked && this.onScreen !== wanted.key) this.show(looked);
    // Also slices on the way to the wanted one are shown, so that pulling the slider shows something.
    else if (isAnswer && !ahead && plane === wanted.plane) this.show(this.kept.get(keyOf(plane, indices[0])));
    this.goOn();
  }
  settle({ plane, indices, ahead }, here) {
    this.asked = null;
    if (!ahead) this.declined.clear();
    for (const index of indices) if (!here.includes(index)) this.declined.add(keyOf(plane, index));
  }
  keep(slice) {
    this.kept.delete(slice.key);
    this.kept.set(slice.key, slice);
    this.sliceBytes = slice.grey.byteLength + slice.labels.byteLength;
    const most = Math.max(2, Math.floor(KEPT_BYTES / this.sliceBytes));
    while (this.kept.size > most) this.kept.delete(this.kept.keys().next().value);
  }
  end() {
    clearTimeout(this.waiting);
    this.model.off("msg:custom", this.hear);
    try { this.model.send({ type: "closed" }); } catch { /* nobody listens any more */ }
  }
}
