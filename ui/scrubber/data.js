// What arrives: one blob, [u32 length][JSON header][padding to 8][arrays] (dynat_core/packing.py).
const KINDS = {u1: Uint8Array, u2: Uint16Array, i4: Int32Array, f4: Float32Array};

function unpack(bytes) {
  const blob = bytes.slice().buffer;                            // a copy: typed arrays need their alignment
  const length = new DataView(blob).getUint32(0, true), start = Math.ceil((4 + length) / 8) * 8;
  const scene = JSON.parse(new TextDecoder().decode(new Uint8Array(blob, 4, length)));
  for (const array of Object.values(scene.arrays)) {
    const size = array.shape.reduce((a, b) => a * b, 1);
    array.values = new KINDS[array.dtype](blob, start + array.off, size);
    array.width = array.shape.length > 1 ? size / array.shape[0] : 1;
  }
  scene.texts = scene.texts?.map(expand) ?? [];
  return scene;
}

// [text, times, text, times, ...] -> one text for each cursor position.
function expand(runs) {
  const lines = [];
  for (let k = 0; k < runs.length; k += 2) for (let t = 0; t < runs[k + 1]; t++) lines.push(runs[k]);
  return lines;
}

const row = (array, i) => array.values.subarray(i * array.width, (i + 1) * array.width);

function shares(counts) {
  let total = 0;
  for (const c of counts) total += c;
  const out = new Float64Array(counts.length);
  if (total) for (let k = 0; k < counts.length; k++) out[k] = counts[k] / total;
  return out;
}

function summed(values) {
  let reached = 0;
  return values.map(v => (reached += v));
}

// The first update after which FOSC is at most c; the first step is always taken, the check after the last decides nothing.
function stopStep(curve, c) {
  for (let k = 1; k < curve.length - 1; k++) if (curve[k] !== null && curve[k] <= c) return k;
  return curve.length - 1;
}

// "@s0/0.3" -> "rgba(...)", deep inside figures; one scene serves both themes.
function painted(value, colors, dark) {
  if (typeof value === "string") {
    if (value[0] !== "@") return value;
    const [name, opacity] = value.slice(1).split("/"), color = colors[name][dark ? 1 : 0];
    const part = k => parseInt(color.slice(k, k + 2), 16);
    return `rgba(${part(1)},${part(3)},${part(5)},${opacity ?? 1})`;
  }
  if (Array.isArray(value)) return value.map(v => (typeof v === "number" ? v : painted(v, colors, dark)));
  if (value && typeof value === "object")
    return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, painted(v, colors, dark)]));
  return value;
}

// Colours at equal distances -> 256 RGBA pixels.
function rampTable(anchors) {
  const rgb = anchors.map(c => [1, 3, 5].map(k => parseInt(c.slice(k, k + 2), 16)));
  const table = new Uint8ClampedArray(1024);
  for (let b = 0; b < 256; b++) {
    const at = b / 255 * (rgb.length - 1), k = Math.min(Math.floor(at), rgb.length - 2), t = at - k;
    for (let c = 0; c < 3; c++) table[4 * b + c] = Math.round(rgb[k][c] * (1 - t) + rgb[k + 1][c] * t);
    table[4 * b + 3] = 255;
  }
  return table;
}

const percent = share => (share > 0 && share < 0.0005 ? "<0.1" : (100 * share).toFixed(share < 0.1 ? 1 : 0)) + " %";
