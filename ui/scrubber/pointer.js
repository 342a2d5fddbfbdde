// The pointer over a figure: the value under it, a click that moves the cursor, and brushing a histogram, which keys do too.
function watchPointer(S, box) {
  let down = null;
  const spot = event => {
    const at = box.body.getBoundingClientRect();
    return [event.clientX - at.left, event.clientY - at.top];
  };
  const up = event => {
    if (!down) return;
    const [x, y] = spot(event), still = Math.hypot(x - down.at[0], y - down.at[1]) < 4;
    if (down.bin !== undefined) S.report(0);
    else if (still && box.view.seek) seekTo(S, box, x, y);
    down = null;
  };
  box.body.addEventListener("pointermove", event => {
    if (down?.bin !== undefined) brushTo(S, box, down.bin, binAt(S, box, ...spot(event), true));
    S.under = {box, spot: spot(event), client: [event.clientX, event.clientY]};
    drawTip(S);
  });
  box.body.addEventListener("pointerleave", () => { S.under = null; drawTip(S); });
  box.body.addEventListener("pointerdown", event => {
    if (event.button || !box.gd?.layout || S.i < 0 || event.target.closest?.(".modebar")) return;
    const at = spot(event), bin = box.view.bins?.along === "x" ? binAt(S, box, ...at, true) : null;
    down = {at, ...(bin === null ? {} : {bin})};
    addEventListener("pointerup", up, {capture: true, once: true});   // Plotly covers the page while its own drag lasts
    if (bin !== null) { box.body.setPointerCapture(event.pointerId); brushTo(S, box, bin, bin); }
  }, true);
  box.body.addEventListener("pointercancel", () => { down = null; });
}

// Every panel of the figure: its axes, and the series drawn in it (undefined: all).
const panels = view => view.bins?.along === "y" ? view.moves.map((m, k) => ({x: m.x, series: view.fig.data[k].meta})) : [{x: "x"}];

function panelAt(box, x, y) {
  for (const panel of panels(box.view)) {
    const f = frame(box, panel.x);
    if (x >= f.left - 3 && x <= f.left + f.width + 3 && y >= f.top && y <= f.top + f.height) return {...panel, f};
  }
  return null;
}

function seekTo(S, box, x, y) {
  const panel = panelAt(box, x, y);
  if (panel) S.go(Math.round(panel.f.xAt(x)), 300);
}

// The bin under a point of the body, or null; `nearest` takes the closest one when it lies between bins.
function binAt(S, box, x, y, nearest = false) {
  const {bins} = box.view, panel = panelAt(box, nearest ? Math.min(Math.max(x, 1), box.body.clientWidth - 1) : x, y);
  const f = panel?.f ?? (nearest ? frame(box) : null);
  if (!f || (nearest && !panel && y > f.top + f.height)) return null;
  const at = bins.along === "x" ? f.xAt(x) : f.yAt(y), boxes = S.scene.scales[bins.scale].boxes;
  const inside = boxes.findIndex(([left, right]) => at >= left && at < right);
  if (inside >= 0 || !nearest) return inside >= 0 ? inside : null;
  const away = boxes.map(([left, right]) => Math.max(left - at, at - right));
  return away.indexOf(Math.min(...away));
}

function brushTo(S, box, a, b) {
  if (b === null) return;
  S.brush = {slot: box.slot, view: box.view.id, scale: box.view.bins.scale, arrays: box.view.bins.arrays, from: Math.min(a, b), to: Math.max(a, b)};
  drawMarks(S, box);
  drawSelection(S);
}

// Brushing by keys, on the histogram that has the focus; says whether the key meant something.
function brushByKey(S, box, key) {
  const mine = S.brush?.view === box.view.id ? S.brush : null, last = S.scene.scales[box.view.bins.scale].boxes.length - 1;
  const shift = {"]": 1, "[": -1}[key], wider = {"}": 1, "{": -1}[key];
  if (!shift && !wider) return false;
  if (!mine) { const bin = fullest(S, box.view); brushTo(S, box, bin, bin); }
  else if (shift && mine.from + shift >= 0 && mine.to + shift <= last) brushTo(S, box, mine.from + shift, mine.to + shift);
  else if (wider) brushTo(S, box, mine.from, Math.max(mine.from, Math.min(last, mine.to + wider)));
  S.$(".dy-said").textContent = S.$(".dy-selection").firstElementChild.textContent;
  S.report(300);
  return true;
}

// The bin with the most images at the cursor's place, in the first series that is shown.
function fullest(S, view) {
  const shown = Object.entries(view.bins.arrays).find(([k, name]) => !S.hidden.has(+k) && name in S.scene.arrays);
  const counts = shown ? [...row(S.scene.arrays[shown[1]], S.i)] : [0];
  return counts.indexOf(Math.max(...counts));
}

// What is brushed at the cursor's place: {measure, low, high, from, to, i, counts: images of each series}.
function selected(S) {
  const {brush} = S;
  if (!brush || S.i < 0 || !(brush.scale in S.scene.scales)) return null;
  const scale = S.scene.scales[brush.scale], counts = {};
  for (const [k, name] of Object.entries(brush.arrays)) {
    if (S.hidden.has(+k) || !(name in S.scene.arrays)) continue;
    counts[k] = row(S.scene.arrays[name], S.i).slice(brush.from, brush.to + 1).reduce((a, b) => a + b, 0);
  }
  return {measure: brush.scale, low: scale.low[brush.from], high: scale.high[brush.to], i: S.i, counts};
}

function drawSelection(S) {
  const bar = S.$(".dy-selection"), found = selected(S);
  bar.hidden = !found;
  if (!found) return;
  const {labels, ends, words} = S.scene.scales[S.brush.scale], {from, to} = S.brush;
  const range = from === to ? labels[from] : `${ends[from][0]} to ${ends[to][1]}`;
  const total = Object.values(found.counts).reduce((a, b) => a + b, 0), many = S.scene.series.length > 1;
  const each = many ? ` (${Object.entries(found.counts).map(([k, c]) => `${S.scene.series[k].name} ${c.toLocaleString("en")}`).join(", ")})` : "";
  bar.firstElementChild.textContent = `${total.toLocaleString("en")} images with ${words} ${range} at ${S.scene.unit} ${S.i}${each}`;
  const open = S.$(".dy-open");
  open.hidden = !S.scene.opens || !total;
  open.textContent = S.scene.opens;
}

function drawTip(S) {
  const tip = S.$(".dy-tip"), {under} = S, bin = under?.box.view?.bins && S.i >= 0 && under.box.gd?.layout ? binAt(S, under.box, ...under.spot) : null;
  tip.hidden = bin === null;
  if (bin === null) return;
  const {view} = under.box, panel = panelAt(under.box, ...under.spot), scale = S.scene.scales[view.bins.scale];
  const i = view.bins.along === "y" ? Math.round(panel.f.xAt(under.spot[0])) : S.i;
  tip.textContent = "";
  element("b", "", `${scale.words} ${scale.labels[bin]}${view.bins.along === "y" ? `, ${S.scene.unit} ${i}` : ""}`, tip);
  for (const [k, name] of Object.entries(view.bins.arrays)) {
    if (S.hidden.has(+k) || (panel.series !== undefined && panel.series !== +k) || i < 0 || i >= S.scene.n) continue;
    const counts = row(S.scene.arrays[name], i), total = counts.reduce((a, b) => a + b, 0), line = element("span", "", "", tip);
    line.append(swatch(S.scene.series[k], k), `${S.scene.series[k].name}: ${total ? percent(counts[bin] / total) : "–"} (${counts[bin].toLocaleString("en")} of ${total.toLocaleString("en")})`);
  }
  const [x, y] = under.client, wide = tip.offsetWidth;
  tip.style.left = `${Math.min(x + 14, innerWidth - wide - 8)}px`;
  tip.style.top = `${y + 16}px`;
}
