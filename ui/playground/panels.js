// The four charts: the side view, and relative FOSC, FOSC and loss against the step. One colour is one quantity everywhere.
const FORMULA_STARTS = 200;

// Round numbers up to `top`, about `many` of them.
function ticks(top, many) {
  const rough = top / many, ten = 10 ** Math.floor(Math.log10(rough)), step = [1, 2, 2.5, 5, 10].find(m => m * ten >= rough * 0.999) * ten;
  return Array.from({length: Math.floor(top / step + 1.001)}, (_, i) => i * step);
}

const roof = v => {
  const ten = 10 ** Math.floor(Math.log10(Math.max(v, 1e-3))), m = [1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10].find(k => k * ten >= v * 1.0001);
  return (m ?? 10) * ten;
};

// A chart's frame; returns where values lie and collects what is drawn into one string.
function chart(S, name, xTop, yTop, xTicks, unit) {
  const svg = S.charts[name], w = svg.w, h = svg.h, size = S.size - 3, left = 2.5 * size + 8, right = w - 9, low = h - size - 7, high = 5;
  const X = v => left + (right - left) * v / xTop, Y = v => low - (low - high) * Math.min(v / yTop, 1.04);
  let out = "";
  for (const v of ticks(yTop, h > 130 ? 4 : 3)) out += `<path class="pg-grid" d="M${left} ${Y(v)}H${right}"/><text class="pg-tick" x="${left - 5}" y="${Y(v) + 4}" text-anchor="end">${tickWord(v)}</text>`;
  for (const [v, word] of xTicks) out += `<text class="pg-tick" x="${X(v)}" y="${h - 4}" text-anchor="${v === xTop ? "end" : v === 0 ? "start" : "middle"}">${word}</text>`;
  const shown = unit ? `<text class="pg-tick pg-unit" x="${left + 5}" y="${high + size}">${unit}</text>` : "";
  return {X, Y, left, right, low, high, add: text => { out += text; }, done: () => { svg.element.innerHTML = out + shown; }};
}

const tickWord = v => String(+v.toFixed(3)).replace(/^0\./, ".");
const line = (points, css) => (points.length ? `<path class="pg-line ${css}" d="M${points.map(p => `${p[0].toFixed(1)} ${p[1].toFixed(1)}`).join("L")}"/>` : "");

function stepTicks(n) {
  const every = n <= 10 ? 1 : n <= 14 ? 2 : 4;
  return Array.from({length: Math.floor(n / every) + 1}, (_, i) => [i * every, n > 5 && (i * every) % (2 * every) ? "" : i ? i * every : "step 0"]);
}

// A curve over the steps: solid up to the cursor, faint after it, or hidden there while a question waits.
function curve(c, S, values, css, dots) {
  const at = values.map((v, k) => (v === null ? null : [c.X(k), c.Y(v)])), past = at.slice(0, S.now.step + 1).filter(Boolean);
  if (!S.hide.future) c.add(line(at.filter(Boolean), css + " pg-faint"));
  c.add(line(past, css));
  if (dots) c.add(`<path class="pg-bead ${css}" d="${past.map(p => shapePath(0, p[0], p[1], 2.6)).join("")}"/>`);
  const here = past[past.length - 1];
  if (here && values[S.now.step] !== null) c.add(`<circle class="pg-mark ${css}" cx="${here[0]}" cy="${here[1]}" r="5"/>`);
}

const rule = (c, S) => c.add(`<path class="pg-rule" d="M${c.X(S.now.step)} ${c.high}V${c.low}"/>`);
const caption = (S, name, title, notes) => {
  const html = `<b>${title}</b><span>${notes.filter(Boolean).join("")}</span>`, box = S.charts[name].caption;
  if (box.shown !== html) box.innerHTML = box.shown = html;
};
const note = (css, words, value) => `<span class="pg-note"><i class="${css}"></i>${words}${value === undefined ? "" : ` <b>${value}</b>`}</span>`;

function sizeCharts(S) {
  S.charts ??= Object.fromEntries([...S.$$("[data-panel]")].map(figure => [figure.dataset.panel,
    {element: figure.querySelector("svg"), caption: figure.querySelector("figcaption"), figure}]));
  for (const chart of Object.values(S.charts)) {
    chart.w = chart.element.clientWidth;
    chart.h = chart.element.clientHeight;
    chart.element.setAttribute("viewBox", `0 0 ${chart.w} ${chart.h}`);
  }
}

function drawPanels(S) {
  if (!S.charts.side.w) return;
  const {now, path, hide} = S, losses = path.flatMap(s => [s.loss, s.loss + s.fosc]), top = roof(Math.max(...losses));
  drawSide(S, top);
  drawRelative(S);
  drawFosc(S);
  const c = chart(S, "loss", now.steps, top, stepTicks(now.steps), "nats");
  rule(c, S);
  if (!hide.loss) curve(c, S, path.map(s => s.loss), "pg-loss", true);
  c.done();
  caption(S, "loss", "How high is the loss?", [hide.loss ? "" : note("pg-loss", "loss", short(path[now.step].loss))]);
  S.charts.loss.element.setAttribute("aria-label", hide.loss ? "Hidden until the reveal" : `Loss in nats, step 0 to ${now.steps}: ${path.map(s => short(s.loss)).join(", ")}`);
}

// The way from z straight to the best corner, seen from the side. The bracket's height is FOSC, on the axis of the loss.
function drawSide(S, top) {
  const {now, path, hide, net} = S, here = path[now.step], c = chart(S, "side", 1, top, [[0, "here"], [1, now.norm === "linf" ? "best corner" : "best point"]], "nats");
  const at = t => [0, 1].map(i => here.z[i] + t * (here.best[i] - here.z[i]));
  const real = Array.from({length: 33}, (_, i) => [c.X(i / 32), c.Y(look(net, at(i / 32), now.label).loss)]);
  const promised = here.loss + here.fosc, end = c.X(1) - 14;
  if (!hide.side) {
    c.add(line([[c.X(0), c.Y(here.loss)], [c.X(1), c.Y(here.loss)]], "pg-level"));
    if (!hide.real) c.add(line(real, "pg-loss"));
    c.add(line([[c.X(0), c.Y(here.loss)], [c.X(1), c.Y(promised)]], "pg-promise"));
    if (c.Y(here.loss) - c.Y(promised) > 2) c.add(`<path class="pg-bracket" d="M${end - 5} ${c.Y(here.loss)}h10m-5 0V${c.Y(promised)}m-5 0h10"/>`);
    c.add(`<circle class="pg-mark pg-loss" cx="${c.X(0)}" cy="${c.Y(here.loss)}" r="5"/>`);
    const tall = c.Y(here.loss) - c.Y(promised) > 1.4 * S.size, third = [c.Y(here.loss + here.fosc / 3), ...(hide.real ? [] : [real[11][1]])];
    const [x, y] = tall ? [end - 9, (c.Y(here.loss) + c.Y(promised)) / 2 + 5] : [c.X(1 / 3), Math.min(...third) - 8];
    const clear = y < S.size ? Math.max(...third) + S.size + 6 : y;                 // under the lines where there is no room above
    c.add(`<text class="pg-value" x="${x}" y="${clear}" text-anchor="end">FOSC ${short(here.fosc)}</text>`);
  }
  c.done();
  const gain = look(net, here.best, now.label).loss - here.loss;
  caption(S, "side", "What does the slope promise?", hide.side ? [] : [note("pg-promise", S.teach ? "promise" : "straight line", `+${short(here.fosc)}`), hide.real ? "" : note("pg-loss", S.teach ? "real" : "real loss", (gain < 0 ? "" : "+") + short(gain))]);
  S.charts.side.element.setAttribute("aria-label", hide.side ? "Hidden until the reveal" :
    `Walking straight from here to the best corner: the straight line gains ${short(here.fosc)} nats, which is FOSC; the loss really changes by ${short(gain)}`);
}

function drawRelative(S) {
  const {now, path, hide} = S, values = path.map(s => s.relative), paper = path.map(s => s.relativePaper);
  const expected = path.map((_, k) => expectation(k, PACES[now.pace], !!now.start, now.norm)), seen = hide.relative ? [0] : [...values, ...(S.teach ? [] : paper)].filter(v => v !== null);
  const c = chart(S, "relative", now.steps, Math.max(...seen, 0) > 1.2 ? 2 : 1.2, stepTicks(now.steps), "");
  rule(c, S);
  if (!hide.relative) {
    if (!hide.future) {
      c.add(line(expected.map((v, k) => (v === null ? null : [c.X(k), c.Y(v)])).filter(Boolean), "pg-expected"));
      if (S.mean && now.start && !S.teach) c.add(`<path class="pg-mean" d="${S.mean.map((v, k) => shapePath(0, c.X(k), c.Y(v), 2.2)).join("")}"/>`);
    }
    if (!S.teach) curve(c, S, paper, "pg-paper", false);
    curve(c, S, values, "pg-relative", true);
  }
  c.done();
  caption(S, "relative", "How much slope is left?", hide.relative ? [] : [note("pg-relative", S.teach ? "left" : "box", short(values[now.step])), S.teach ? "" : note("pg-paper", "paper", short(paper[now.step])),
    hide.future || expected[0] === null ? "" : note("pg-expected", S.teach ? "if straight" : now.start ? "expected" : "if straight")]);
  S.charts.relative.figure.title = "Relative FOSC, no unit, 0 to 2; 1 is the middle of the set. Solid: box form. Dashed: paper form. Dotted: paper form expected on a straight slope (with random starts: their mean). Dots: mean of 200 starts here.";
  S.charts.relative.element.setAttribute("aria-label", hide.relative ? "Hidden until the reveal" : `Relative FOSC, box form, step 0 to ${now.steps}: ${values.map(short).join(", ")}`);
}

function drawFosc(S) {
  const {now, path, hide} = S, here = path[now.step], shown = path.slice(0, hide.future ? now.step + 1 : undefined);
  const paperToo = !S.teach, tops = [...shown.map(s => s.fosc), ...(paperToo ? shown.map(s => s.paper) : []), ...(hide.middle ? [] : shown.map(s => s.middle))];
  const c = chart(S, "fosc", now.steps, roof(Math.max(...tops, 0.01)), stepTicks(now.steps), "nats");
  rule(c, S);
  if (!hide.fosc) {
    if (!hide.middle) curve(c, S, path.map(s => s.middle), "pg-middle", false);
    if (paperToo) curve(c, S, path.map(s => s.paper), "pg-paper", false);
    curve(c, S, path.map(s => s.fosc), "pg-box-form", true);
  }
  c.done();
  caption(S, "fosc", "How much more loss is promised?", hide.fosc ? [] : [note("pg-box-form", S.teach ? "FOSC" : "FOSC, box", short(here.fosc)), paperToo ? note("pg-paper", "paper", short(here.paper)) : "",
    hide.middle ? "" : note("pg-middle", "middle", short(here.middle))]);
  S.charts.fosc.figure.title = "FOSC in nats, the unit of the loss. Solid: box form. Dashed: paper form. Dotted: what the same slope would promise from the middle of the set; relative FOSC is the solid line divided by it.";
  S.charts.fosc.element.setAttribute("aria-label", hide.fosc ? "Hidden until the reveal" : `FOSC, box form, in nats, step 0 to ${now.steps}: ${path.map(s => short(s.fosc)).join(", ")}`);
}
