// The moving layer of a figure: an SVG over Plotly's. A move of the cursor sets a few attributes and asks Plotly for nothing.
// Axes are linear and margins fixed, so positions follow from gd.layout alone.
const SVG = "http://www.w3.org/2000/svg";
const DASH = {solid: "none", dash: "7 4", dot: "2 3", dashdot: "7 3 2 3", longdash: "11 4", longdashdot: "11 3 2 3"};
let clips = 0;

function svg(tag, attributes = {}, parent = null) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  parent?.append(element);
  return element;
}

// Where data positions are on the screen: {left, top, width, height, x(value), y(value), xAt(pixel), yAt(pixel), x0, x1}.
function frame(box, xName = "x", yName = "y") {
  const layout = box.gd.layout, m = layout.margin, W = box.width - m.l - m.r, H = box.height - m.t - m.b;
  const xaxis = layout[xName.replace("x", "xaxis")], yaxis = layout[yName.replace("y", "yaxis")];
  const [xa, xb] = xaxis.domain ?? [0, 1], [ya, yb] = yaxis.domain ?? [0, 1];
  const left = m.l + xa * W, width = (xb - xa) * W, top = m.t + (1 - yb) * H, height = (yb - ya) * H;
  const [x0, x1] = xaxis.range, [y0, y1] = yaxis.range;
  return {
    left, top, width, height, y1,
    x: v => left + (v - x0) / (x1 - x0) * width, y: v => top + (y1 - v) / (y1 - y0) * height,
    xAt: p => x0 + (p - left) / width * (x1 - x0), yAt: p => y1 - (p - top) / height * (y1 - y0),
  };
}

function buildMarks(layer, view) {
  layer.textContent = "";
  const id = `dy-clip-${++clips}`, clip = svg("rect", {}, svg("clipPath", {id}, layer));
  const inside = svg("g", {"clip-path": `url(#${id})`}, layer), outside = svg("g", {}, layer);
  const brush = svg("rect", {class: "dy-brush"}, inside);
  const marks = view.moves.map(move => {
    const color = `var(--dy-${move.color.slice(1)})`, line = {stroke: color, fill: "none", "stroke-dasharray": DASH[move.dash ?? "solid"]};
    const group = svg("g", {}, ["dot", "trail", "spot"].includes(move.kind) ? outside : inside), mark = {move, group};
    if (move.kind === "dot" || move.kind === "spot") mark.dot = svg("circle", {r: 5, fill: color, class: "dy-dot"}, group);
    else if (["rule", "tick", "level"].includes(move.kind))
      mark.line = svg("line", {...line, "stroke-width": move.kind === "tick" ? 3 : move.width ?? 1.4, ...(move.kind === "tick" ? {"stroke-dasharray": "none"} : {})}, group);
    else mark.path = svg("path", {...line, "stroke-width": move.kind === "bars" ? 1.6 : move.width ?? 2.2, "stroke-linejoin": "round",
      ...(move.kind === "bars" ? {fill: color, "fill-opacity": 0.24} : {})}, group);
    if (move.kind === "trail") mark.dots = svg("g", {fill: color, class: "dy-dot"}, group);
    if (move.kind === "bars" || move.label) mark.text = svg("text", {class: "dy-mark-text", fill: color}, move.label ? outside : inside);
    return mark;
  });
  return {clip, brush, marks};
}

// Sizes are read here and kept: reading them at every move would make the browser lay the page out between two writes.
function measureBox(box) {
  if (!box.gd?.layout || !box.drawn) return;
  [box.width, box.height] = [box.gd.clientWidth, box.gd.clientHeight];
  const m = box.gd.layout.margin;
  const area = {x: m.l, y: m.t, width: Math.max(box.width - m.l - m.r, 0), height: Math.max(box.height - m.t - m.b, 0)};
  for (const [name, value] of Object.entries(area)) box.drawn.clip.setAttribute(name, value);
}

function drawMarks(S, box) {
  const {gd, drawn, view} = box;
  if (!gd?.layout || !box.width || !drawn) return;
  const whole = frame(box);
  for (const mark of drawn.marks) {
    const k = mark.move.series, shown = S.i >= 0 && !(k !== undefined && S.hidden.has(k));
    for (const part of [mark.group, mark.text]) if (part) part.style.display = shown ? "" : "none";
    if (!shown) continue;
    mark.group.style.opacity = k !== undefined && S.scene.series[k].until !== null && S.i > S.scene.series[k].until ? 0.45 : 1;
    DRAW[mark.move.kind](S, mark, mark.move.x || mark.move.y ? frame(box, mark.move.x, mark.move.y) : whole, view);
  }
  drawBrush(S, box, whole);
}

const DRAW = {
  bars(S, {move, path, text}, f, view) {
    const counts = row(S.scene.arrays[move.arr], S.i), values = move.share ? shares(counts) : counts;
    const boxes = move.boxes ?? S.scene.scales[view.bins.scale].boxes, floor = f.y(0).toFixed(1);
    let d = "", end = null, over = 0, at = 0;
    for (let k = 0; k < values.length; k++) {
      const [left, right] = boxes[k], v = values[k];
      if (end !== null && (v <= 0 || end !== left)) { d += `V${floor}`; end = null; }
      if (v > 0) {
        d += (end === null ? `M${f.x(left).toFixed(1)} ${floor}` : "") + `V${f.y(v).toFixed(1)}H${f.x(right).toFixed(1)}`;
        end = right;
        if (v > f.y1 && v > over) { over = v; at = (left + right) / 2; }
      }
    }
    path.setAttribute("d", d + (end === null ? "" : `V${floor}`));
    text.textContent = over ? percent(over) : "";                 // a bar that leaves at the top says how tall it is
    if (over) place(text, Math.min(Math.max(f.x(at) + 6, f.left + 2), f.left + f.width - 40), f.top + 12 + 13 * (move.series ?? 0));
  },
  ecdf(S, {move, path, text}, f, view) {
    const reached = summed(shares(row(S.scene.arrays[move.arr], S.i))), boxes = move.boxes ?? S.scene.scales[view.bins.scale].boxes;
    let d = `M${f.x(boxes[0][0]).toFixed(1)} ${f.y(0).toFixed(1)}`;
    for (let k = 0; k < reached.length; k++) {
      const [left, right] = boxes[k], y = f.y(reached[k]).toFixed(1);
      d += move.stair ? `H${f.x((left + right) / 2).toFixed(1)}V${y}H${f.x(right).toFixed(1)}` : `L${f.x(right).toFixed(1)} ${y}`;
    }
    path.setAttribute("d", d);
  },
  rule(S, {move, line, text}, f) {
    const at = move.arr ? S.scene.arrays[move.arr].values[S.i] : S.i, x = f.x(at);
    const off = Number.isNaN(at) || x < f.left - 1 || x > f.left + f.width + 1;
    line.style.display = off ? "none" : "";
    if (text) text.textContent = off ? "" : move.label;
    if (off) return;
    segment(line, x, f.top, x, f.top + f.height);
    if (text) place(text, x + (x > f.left + f.width - 30 ? -22 : 4), f.top + 24);
  },
  tick(S, {move, line}, f) {
    const at = S.scene.arrays[move.arr].values[S.i];
    line.style.display = Number.isNaN(at) ? "none" : "";
    if (!Number.isNaN(at)) segment(line, f.x(at), f.top, f.x(at), f.top + 0.07 * f.height);
  },
  dot(S, {move, dot}, f) {
    const at = S.scene.arrays[move.arr].values[S.i], x = f.x(S.i);
    const off = Number.isNaN(at) || x < f.left - 1 || x > f.left + f.width + 1;
    dot.style.display = off ? "none" : "";
    if (!off) { dot.setAttribute("cx", x); dot.setAttribute("cy", f.y(at)); }
  },
  trail(S, {move, path, dots}, f) {
    const points = S.scene.arrays[move.arr].values, last = Math.max(points.length / 2 - 1, 1);
    let d = "";
    while (dots.childElementCount <= S.i) svg("circle", {r: 2.5 + 4.5 * dots.childElementCount / last}, dots);
    [...dots.children].forEach((dot, k) => {
      dot.style.display = k <= S.i ? "" : "none";
      const x = f.x(points[2 * k]), y = f.y(points[2 * k + 1]);
      dot.setAttribute("cx", x); dot.setAttribute("cy", y);
      if (k <= S.i) d += `${k ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`;
    });
    path.setAttribute("d", d);
  },
  curve(S, {move, path}, f) {
    const points = row(S.scene.arrays[move.arr], S.i);
    let d = "", pen = "M";
    for (let k = 0; k < points.length; k += 2) {
      const x = points[k], y = points[k + 1];
      if (Number.isNaN(x) || Number.isNaN(y)) { pen = "M"; continue; }
      d += `${pen}${f.x(x).toFixed(1)} ${f.y(y).toFixed(1)}`;
      pen = "L";
    }
    path.setAttribute("d", d);
  },
  spot(S, {move, dot}, f) {
    const [x, y] = row(S.scene.arrays[move.arr], S.i), off = Number.isNaN(x) || Number.isNaN(y);
    dot.style.display = off ? "none" : "";
    if (!off) { dot.setAttribute("cx", f.x(x)); dot.setAttribute("cy", f.y(y)); }
  },
  level(S, {move, line, text}, f) {                                        // the threshold slider's c, drawn across a curve
    const y = S.level?.form === move.form ? f.y(move.log ? Math.log10(S.level.c) : S.level.c) : NaN;
    const off = Number.isNaN(y) || y < f.top - 1 || y > f.top + f.height + 1;
    line.style.display = off ? "none" : "";
    if (text) text.textContent = off ? "" : move.label;
    if (off) return;
    segment(line, f.left, y, f.left + f.width, y);
    if (text) place(text, f.left + f.width - 8, y - 4);
  },
};

function segment(line, x1, y1, x2, y2) {
  for (const [name, value] of Object.entries({x1, y1, x2, y2})) line.setAttribute(name, value);
}

function place(text, x, y) {
  text.setAttribute("x", x); text.setAttribute("y", y);
}

function drawBrush(S, box, f) {
  const {brush} = box.drawn, range = S.brush?.slot === box.view.slot && S.brush.scale === box.view.bins?.scale && box.view.bins.along === "x" ? S.brush : null;
  brush.style.display = range ? "" : "none";
  if (!range) return;
  const boxes = S.scene.scales[range.scale].boxes, left = f.x(boxes[range.from][0]), right = f.x(boxes[range.to][1]);
  for (const [name, value] of Object.entries({x: left, y: f.top, width: right - left, height: f.height})) brush.setAttribute(name, value);
}
