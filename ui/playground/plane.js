// The picture: classes and loss on a canvas (drawn when the model, the label or the view changes), all that moves in SVG.
const CLASS_COLORS = [["#009E73", "#2CCB9B"], ["#C79600", "#F0C93B"], ["#5B4BB5", "#A99BF5"]];
const LEVELS = [0.02, 0.1, 0.3, 0.6, 1, 1.5, 2, 3, 4, 5, 6, 8, 10], GRID = 110;
const CORNERS = [[-1, 1], [1, 1], [-1, -1], [1, -1]];

function svg(tag, attributes, parent, text) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text !== undefined) made.textContent = text;
  parent?.append(made);
  return made;
}

const place = (element, attributes) => { for (const name in attributes) element.setAttribute(name, attributes[name]); };
const show = (element, on) => { element.style.display = on ? "" : "none"; };

function buildPlane(S) {
  const root = S.$(".pg-plane svg"), P = S.plane = {root, canvas: S.$(".pg-plane canvas"), size: 0};
  const defs = svg("defs", {}, root), clip = svg("clipPath", {id: "pg-in"}, defs);
  P.clip = svg("rect", {}, clip);
  P.outside = svg("path", {class: "pg-outside", "fill-rule": "evenodd"}, root);
  P.edge = svg("rect", {class: "pg-edge"}, root);
  P.edgeText = svg("text", {class: "pg-small"}, root, "edge of the pixel box");
  P.points = svg("g", {class: "pg-points"}, root);
  P.paper = svg("path", {class: "pg-ball-paper"}, root);
  P.ball = svg("path", {class: "pg-ball", "clip-path": "url(#pg-in)"}, root);
  P.other = svg("polyline", {class: "pg-other"}, root);
  P.otherEnd = svg("circle", {class: "pg-other-end", r: 6}, root);
  P.otherText = svg("text", {class: "pg-word pg-other-text"}, root);
  P.drop = svg("line", {class: "pg-drop"}, root);
  P.reach = svg("line", {class: "pg-reach"}, root);
  P.foot = svg("path", {class: "pg-foot-mark"}, root);
  P.arrow = svg("path", {class: "pg-arrow"}, root);
  P.trailHalo = svg("polyline", {class: "pg-trail pg-halo"}, root);
  P.trail = svg("polyline", {class: "pg-trail"}, root);
  P.dots = svg("path", {class: "pg-dots"}, root);
  P.paperBest = svg("path", {class: "pg-best-paper"}, root);
  P.best = svg("path", {class: "pg-best"}, root);
  P.corners = CORNERS.map((corner, k) => {
    const g = svg("g", {class: "pg-corner"}, root);
    svg("circle", {r: 15}, g);
    svg("text", {"text-anchor": "middle", dy: "0.35em"}, g, k + 1);
    g.onpointerdown = event => { event.stopPropagation(); S.guess(k); };
    return g;
  });
  P.now = svg("circle", {class: "pg-now", r: 8}, root);
  P.x = svg("g", {class: "pg-x", tabindex: 0, role: "slider", "aria-roledescription": "point in the plane", "aria-label":
    "The clean image. Arrow keys move it, with Shift faster", "aria-valuemin": 0, "aria-valuemax": 1}, root);
  svg("circle", {class: "pg-grip", r: 22}, P.x);
  P.xShape = svg("path", {class: "pg-x-shape"}, P.x);
  P.words = Object.fromEntries(["best", "x", "now", "reach", "paper"].map(name => [name, svg("text", {class: `pg-word pg-word-${name}`}, root)]));
}

// Where the picture looks: the whole plane, or closely at the set.
function viewOf(now) {
  if (!now.zoom) return {left: -0.05, low: -0.05, span: 1.1};
  const span = Math.max(3.1 * now.eps, 0.12);
  return {left: now.x[0] - span / 2, low: now.x[1] - span / 2, span};
}

function sizePlane(S) {
  const P = S.plane, size = Math.round(P.root.parentElement.clientWidth);
  if (!size || size === P.size) return false;
  P.size = size;
  P.root.setAttribute("viewBox", `0 0 ${size} ${size}`);
  return true;
}

const shapePath = (shape, x, y, r) => (shape === 0 ? `M${x - r} ${y}a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0z` :
  shape === 1 ? `M${x} ${y - 1.2 * r}L${x + 1.15 * r} ${y + 0.85 * r}H${x - 1.15 * r}z` : `M${x - r} ${y - r}h${2 * r}v${2 * r}h${-2 * r}z`);

function star(x, y, r) {
  return "M" + Array.from({length: 10}, (_, k) => {
    const turn = Math.PI * (k / 5 - 0.5), far = k % 2 ? 0.45 * r : r;
    return `${(x + far * Math.cos(turn)).toFixed(2)} ${(y + far * Math.sin(turn)).toFixed(2)}`;
  }).join("L") + "z";
}

function hues(S) { return CLASS_COLORS.map(pair => pair[S.dark ? 1 : 0]); }

const parts = color => [1, 3, 5].map(k => parseInt(color.slice(k, k + 2), 16));

// Canvas: every place in the colour of the class the model says there, lines of equal loss, the border between classes.
function paintGround(S) {
  const {canvas, size} = S.plane, {now, net, view} = S, ratio = Math.min(devicePixelRatio || 1, 2), n = GRID + 1;
  canvas.width = canvas.height = size * ratio;
  const pen = canvas.getContext("2d"), small = document.createElement("canvas"), colors = hues(S).map(parts), ground = parts(S.ground);
  small.width = small.height = n;
  const ink = small.getContext("2d"), image = ink.createImageData(n, n), loss = new Float64Array(n * n), margins = Array.from({length: net.classes}, () => new Float64Array(n * n));
  for (let row = 0; row < n; row++) for (let col = 0; col < n; col++) {
    const at = row * n + col, p = [view.left + view.span * col / GRID, view.low + view.span * (1 - row / GRID)];
    const seen = look(net, p, now.label), {logits} = seen, top = winner(logits), sure = 1 / logits.reduce((sum, z) => sum + Math.exp(z - logits[top]), 0);
    loss[at] = seen.loss;
    for (let c = 0; c < net.classes; c++) margins[c][at] = logits[c] - Math.max(...logits.filter((_, i) => i !== c));
    const share = 0.1 + 0.3 * Math.max(0, (sure - 1 / net.classes) / (1 - 1 / net.classes));
    for (let i = 0; i < 3; i++) image.data[4 * at + i] = ground[i] + share * (colors[top][i] - ground[i]);
    image.data[4 * at + 3] = 255;
  }
  ink.putImageData(image, 0, 0);
  const cell = size * ratio / GRID;
  pen.imageSmoothingQuality = "high";
  pen.drawImage(small, 0, 0, n, n, -cell / 2, -cell / 2, size * ratio + cell, size * ratio + cell);
  pen.scale(ratio, ratio);
  pen.strokeStyle = S.ink;
  pen.lineWidth = 0.8;
  pen.globalAlpha = 0.34;
  for (const level of LEVELS) contour(pen, loss, level, n, size / GRID);
  pen.globalAlpha = 0.85;
  pen.lineWidth = 1.6;
  for (const margin of net.classes > 2 ? margins : margins.slice(0, 1)) contour(pen, margin, 0, n, size / GRID);
}

// Lines where a grid of values crosses `level` (marching squares).
function contour(pen, values, level, n, cell) {
  pen.beginPath();
  for (let row = 0; row + 1 < n; row++) for (let col = 0; col + 1 < n; col++) {
    const at = row * n + col, a = values[at] - level, b = values[at + 1] - level, c = values[at + n + 1] - level, d = values[at + n] - level;
    const ends = [];
    if (a < 0 !== b < 0) ends.push([col + a / (a - b), row]);
    if (b < 0 !== c < 0) ends.push([col + 1, row + b / (b - c)]);
    if (d < 0 !== c < 0) ends.push([col + d / (d - c), row + 1]);
    if (a < 0 !== d < 0) ends.push([col, row + a / (a - d)]);
    for (let k = 0; k + 1 < ends.length; k += 2) {
      pen.moveTo(ends[k][0] * cell, ends[k][1] * cell);
      pen.lineTo(ends[k + 1][0] * cell, ends[k + 1][1] * cell);
    }
  }
  pen.stroke();
}

// What changes with the view, the data or the theme, not with the point.
function layGround(S) {
  const {plane: P, now} = S, w = P.size, a = S.toPixel([LOW, HIGH]), b = S.toPixel([HIGH, LOW]), side = b[0] - a[0];
  for (const rect of [P.edge, P.clip]) place(rect, {x: a[0], y: a[1], width: side, height: side});
  P.outside.setAttribute("d", `M0 0H${w}V${w}H0zM${a[0]} ${a[1]}v${side}h${side}v${-side}z`);
  place(P.edgeText, {x: a[0] + 6, y: b[1] + 14});
  show(P.edgeText, !now.zoom && S.size < 17);
  P.points.textContent = "";
  const colors = hues(S), {x, y} = S.points;
  for (let label = 0; label < S.net.classes; label++) {
    const d = x.map((p, i) => (y[i] === label ? shapePath(label, ...S.toPixel(p), now.zoom ? 5 : 3.2) : "")).join("");
    svg("path", {d, fill: colors[label]}, P.points);
  }
}

function ballPath(S, ball, cut) {
  if (ball.norm === "l2") {
    const [x, y] = S.toPixel(ball.x), r = ball.eps * S.scale;
    return shapePath(0, x, y, r);
  }
  const [low, high] = cut ? faces(ball) : [ball.x.map(v => v - ball.eps), ball.x.map(v => v + ball.eps)];
  const [left, bottom] = S.toPixel(low), [right, top] = S.toPixel(high);
  return `M${left} ${top}H${right}V${bottom}H${left}z`;
}

function arrowPath(from, to) {
  const [dx, dy] = minus(to, from), length = Math.hypot(dx, dy);
  if (length < 3) return "";
  const u = [dx / length, dy / length], head = Math.min(11, 0.6 * length), neck = [to[0] - head * u[0], to[1] - head * u[1]];
  const wing = side => `${neck[0] - side * 0.45 * head * u[1]} ${neck[1] + side * 0.45 * head * u[0]}`;
  return `M${from[0]} ${from[1]}L${neck[0]} ${neck[1]}M${wing(1)}L${to[0]} ${to[1]}L${wing(-1)}z`;
}

// Everything that follows the point and the step.
function drawPlane(S) {
  const {plane: P, now, path, hide} = S, set = ball(now), here = path[now.step], x = S.toPixel(now.x), z = S.toPixel(here.z);
  const steepest = Math.max(...path.map(s => s.steepness)), unit = here.steepness > 0 ? here.grad.map(v => v / here.steepness) : [0, 0];
  P.ball.setAttribute("d", ballPath(S, set, true));
  const beyond = now.x.some(v => v - now.eps < LOW || v + now.eps > HIGH);
  show(P.paper, beyond);
  if (beyond) P.paper.setAttribute("d", ballPath(S, set, false));
  P.xShape.setAttribute("d", shapePath(now.label, 0, 0, 10));
  P.xShape.setAttribute("fill", hues(S)[now.label]);
  P.x.setAttribute("transform", `translate(${x[0]} ${x[1]})`);
  place(P.x, {"aria-valuenow": now.x[0].toFixed(2), "aria-valuetext": `right ${short(now.x[0])}, up ${short(now.x[1])}, true class ${NAMES[now.label]}`});
  const trail = path.slice(0, now.step + 1).map(s => S.toPixel(s.z)), points = trail.map(p => p.join(",")).join(" ");
  P.trail.setAttribute("points", points);
  P.trailHalo.setAttribute("points", points);
  P.dots.setAttribute("d", trail.slice(0, -1).map(p => shapePath(0, p[0], p[1], 3.4)).join(""));
  place(P.now, {cx: z[0], cy: z[1]});
  const best = S.toPixel(here.best), lone = here.steepness > 0;
  show(P.best, !hide.best && lone);
  P.best.setAttribute("d", star(best[0], best[1], 13));
  const paperBest = ballBest(set, here.z, here.grad), apart = norm2(minus(paperBest, here.best)) > 1e-9;
  show(P.paperBest, apart && !hide.best && lone && !S.teach);
  if (apart) P.paperBest.setAttribute("d", star(...S.toPixel(paperBest), 10));
  const reach = lone ? here.fosc / here.steepness : 0, foot = S.toPixel([here.z[0] + reach * unit[0], here.z[1] + reach * unit[1]]);
  const measured = !hide.reach && reach * S.scale > 2;
  for (const part of [P.reach, P.drop, P.foot]) show(part, measured);
  if (measured) {
    place(P.reach, {x1: z[0], y1: z[1], x2: foot[0], y2: foot[1]});
    place(P.drop, {x1: best[0], y1: best[1], x2: foot[0], y2: foot[1]});
    P.foot.setAttribute("d", rightAngle(foot, z, best));
  }
  show(P.arrow, !hide.arrow && lone);
  const far = 0.085 + 0.11 * here.steepness / (steepest || 1), span = far * S.plane.size;
  P.arrow.setAttribute("d", arrowPath(z, [z[0] + span * unit[0], z[1] - span * unit[1]]));
  P.corners.forEach((g, k) => {
    show(g, hide.corners === false);
    if (hide.corners !== false) return;
    const [u, v] = S.toPixel([now.x[0] + CORNERS[k][0] * now.eps, now.x[1] + CORNERS[k][1] * now.eps]);
    g.setAttribute("transform", `translate(${u} ${v})`);
    g.classList.toggle("pg-chosen", S.chosen === k);
  });
  drawOther(S);
  drawWords(S, {x, z, best, foot, measured, reach, unit, paperBest: apart ? S.toPixel(paperBest) : null});
}

function rightAngle(foot, z, best) {
  const toward = (p, far) => { const d = minus(p, foot), l = Math.hypot(...d); return l > 16 ? [d[0] / l * far, d[1] / l * far] : null; };
  const a = toward(z, 8), b = toward(best, 8);
  return a && b ? `M${foot[0] + a[0]} ${foot[1] + a[1]}l${b[0]} ${b[1]}l${-a[0]} ${-a[1]}` : "";
}

// The path of another start, when a stop of the tour compares two.
function drawOther(S) {
  const {plane: P, other} = S;
  for (const part of [P.other, P.otherEnd, P.otherText]) show(part, !!other);
  if (!other) return;
  const points = other.map(s => S.toPixel(s.z)), end = points[points.length - 1], left = end[0] > P.size / 2;
  P.other.setAttribute("points", points.map(p => p.join(",")).join(" "));
  place(P.otherEnd, {cx: end[0], cy: end[1]});
  place(P.otherText, {x: end[0] + (left ? -12 : 12), y: end[1] + (end[1] > 40 ? -10 : 22), "text-anchor": left ? "end" : "start"});
  const last = other[other.length - 1];
  P.otherText.textContent = `other start: loss ${short(last.loss)}, FOSC ${short(last.fosc)}`;
}

function drawWords(S, at) {
  const {plane: P, now, hide} = S, {words} = P, edge = P.size, far = S.size + 3;
  // away: which way the word lies from its mark; it changes sides where the picture ends
  const put = (name, text, p, away) => {
    const word = words[name];
    show(word, !!text);
    if (!text) return;
    if (word.textContent !== text) word.textContent = text;
    const wide = 0.56 * S.size * text.length + 8, x = p[0] + away[0] * far, level = Math.abs(away[0]) < 0.3;
    const side = level ? "middle" : away[0] < 0 ? "end" : "start";
    const room = {start: [0, edge - wide], middle: [wide / 2, edge - wide / 2], end: [wide, edge]}[side];
    const moved = Math.min(Math.max(x, room[0]), room[1]), dodge = Math.abs(moved - x) > 8 && Math.abs(away[1]) < 0.3 ? -1.4 : away[1];
    place(word, {x: moved, y: Math.min(Math.max(p[1] + dodge * far + 5, S.size), edge - 5), "text-anchor": side});
  };
  const out = (p, from) => { const d = minus(p, from), l = Math.hypot(...d) || 1; return [d[0] / l, d[1] / l]; };
  const bestWay = out(at.best, at.x), within = at.paperBest?.every(v => v > 0 && v < edge);
  put("best", hide.best || !S.path[now.step].steepness ? "" : now.norm === "linf" ? "best corner" : "best point", at.best, bestWay);
  put("paper", within && !hide.best && !S.teach ? "paper form's" : "", at.paperBest ?? [0, 0], [bestWay[0], bestWay[1] > 0 ? 2 : -2]);
  const apart = minus(at.z, at.x), close = Math.hypot(...apart) < 24, aside = close ? -at.unit[0] : -apart[0];
  put("x", S.moved ? "x" : "x: drag me", at.x, [aside < 0 ? -1.2 : 1.2, 0]);
  let below = at.unit[1] > 0 ? 1.4 : -1.4;                        // off the arrow, and off the clean image
  if (Math.abs(at.z[1] + below * far - at.x[1]) < 1.5 * S.size && Math.abs(apart[0]) < 4 * S.size) below = -below;
  put("now", close ? "" : now.step ? `after step ${now.step}` : "start", at.z, [0, below]);
  const middle = [(at.z[0] + at.foot[0]) / 2, (at.z[1] + at.foot[1]) / 2];
  put("reach", at.measured && Math.hypot(...minus(at.foot, at.z)) > 44 ? short(at.reach) : "", middle, out(middle, at.best));
}
