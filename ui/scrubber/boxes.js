// The boxes of a page: figures, pictures, the threshold slider, texts. Built when the scene changes, drawn at every move.
const matches = (when, chosen) => Object.entries(when).every(([name, value]) => !(name in chosen) || chosen[name] === value);

let plotly;                                                     // one load per page, shared by all instances
function loadPlotly(url) {
  if (window.Plotly?.newPlot) return Promise.resolve(window.Plotly);   // a chart of Streamlit's own brings it along
  return plotly ??= new Promise((resolve, reject) => {
    const script = Object.assign(document.createElement("script"), {src: url});
    script.onload = () => resolve(window.Plotly);
    script.onerror = () => { plotly = null; reject(new Error(`The charts cannot be drawn: ${url} could not be loaded. Start Dynat with "make run".`)); };
    document.head.append(script);
  });
}

function element(tag, className = "", text = "", parent = null) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text) made.textContent = text;
  parent?.append(made);
  return made;
}

function swatch(series, k) {
  const sample = svg("svg", {class: "dy-swatch", viewBox: "0 0 26 10", "aria-hidden": "true"});
  svg("line", {x1: 1, x2: 25, y1: 5, y2: 5, stroke: `var(--dy-s${k})`, "stroke-width": 3, "stroke-dasharray": DASH[series.dash]}, sample);
  return sample;
}

function build(S) {
  const views = S.scene.views, slots = [...new Set(views.map(v => v.slot))];
  const plan = JSON.stringify([S.scene.blocks, slots.map(slot => views.filter(v => v.slot === slot).map(v => [v.block, v.span]))]);
  if (S.plan !== plan) layOut(S, slots, plan);
  for (const box of S.boxes.values()) show(S, box, views.find(v => v.slot === box.slot && matches(v.when, S.chosen)));
  S.built = S.scene;                                            // until then the boxes still show views of an older scene
}

function layOut(S, slots, plan) {
  clearBoxes(S);
  S.plan = plan;
  const blocks = {};
  for (const [name, span] of Object.entries(S.scene.blocks)) {
    blocks[name] = element("div", "dy-block", "", S.$(".dy-grid"));
    blocks[name].style.gridColumn = `span ${span}`;
  }
  S.resized = new ResizeObserver(entries => entries.forEach(({target, contentRect}) => {
    const box = S.boxes.get(target.dataset.slot);
    if (box?.gd?.layout && contentRect.width > 0 && S.built === S.scene) box.fitted = S.Plotly.Plots.resize(box.gd).then(() => { measureBox(box); drawMarks(S, box); }).catch(() => {});
  }));
  for (const slot of slots) {
    const first = S.scene.views.find(v => v.slot === slot), figure = element("figure", "dy-box", "", blocks[first.block] ?? blocks[Object.keys(blocks)[0]]);
    figure.style.gridColumn = `span ${first.span}`;
    const caption = element("figcaption", "", "", figure);
    const box = {slot, figure, title: element("span", "dy-title", "", caption), notes: element("span", "dy-notes", "", caption),
      body: element("div", "dy-body", "", figure)};
    box.body.dataset.slot = slot;
    S.boxes.set(slot, box);
    S.resized.observe(box.body);
    watchPointer(S, box);
  }
}

function clearBoxes(S) {
  S.resized?.disconnect();
  for (const box of S.boxes.values()) purge(S, box);
  S.boxes.clear();
  S.$(".dy-grid").textContent = "";
}

// Plotly draws in several goes and trips over a chart that is taken from it in between, so it may end first.
function purge(S, {gd, redrawn, fitted}) {
  if (gd) Promise.allSettled([redrawn, fitted]).then(() => S.Plotly.purge(gd));
}

function show(S, box, view) {
  box.figure.hidden = !view;
  box.view = view;
  if (!view) return;
  box.title.textContent = view.title;
  box.notes.textContent = "";
  box.noteTexts = view.notes.map(note => {
    const line = element("span", "dy-note", "", box.notes);
    if (note.series !== null && S.scene.series.length > 1) line.append(swatch(S.scene.series[note.series], note.series));
    return {line, text: element("span", "", "", line), note};
  });
  const kind = ["fig", "picture", "threshold", "text"].find(name => name in view);
  if (box.kind !== kind) {
    purge(S, box);
    box.body.textContent = ""; box.signature = box.gd = box.drawn = null; box.kind = kind;
    if (kind === "fig") {
      box.gd = element("div", "dy-plot", "", box.body);
      box.layer = svg("svg", {class: "dy-marks", "aria-hidden": "true"}, box.body);
    }
  }
  ({fig: showFigure, picture: showPicture, threshold: showThreshold, text: showText})[kind](S, box, view);
}

function showFigure(S, box, view) {
  box.body.style.height = view.height + "px";
  box.body.setAttribute("role", "img");
  const brushable = view.bins?.along === "x" && S.scene.n > 0;
  box.body.classList.toggle("dy-brushable", brushable);
  brushable ? box.body.setAttribute("tabindex", 0) : box.body.removeAttribute("tabindex");
  brushable ? box.body.setAttribute("aria-keyshortcuts", "[ ] { }") : box.body.removeAttribute("aria-keyshortcuts");
  box.body.classList.toggle("dy-seekable", view.seek);
  const signature = JSON.stringify([view.id, S.dark, S.font, [...S.hidden], view.fig, view.fills.length ? S.scene.n : 0]);
  if (box.signature !== signature) {                            // a live update redraws only what really changed
    box.signature = signature;
    const {data, layout} = painted(view.fig, S.scene.colors, S.dark);
    for (const trace of data) trace.visible = !S.hidden.has(trace.meta);
    for (const fill of view.fills) Object.assign(data[fill.trace], heat(S.scene.arrays[fill.arr], fill));
    layout.uirevision = `${S.run}/${view.id}`;
    layout.font = {...layout.font, family: S.font};
    layout.dragmode = "zoom";
    layout.modebar = {bgcolor: "rgba(0,0,0,0)", color: painted("@muted", S.scene.colors, S.dark), activecolor: painted("@ink", S.scene.colors, S.dark)};
    layout.hoverlabel = {bgcolor: S.ground, bordercolor: painted("@grid", S.scene.colors, S.dark), align: "left",
      font: {color: painted("@ink", S.scene.colors, S.dark), size: 12, family: S.font}};
    const first = !box.gd.layout;
    box.config ??= {displaylogo: false, modeBarButtons: [[saveButton(S, box)]], doubleClick: "reset"};   // another object would reset the zoom
    box.redrawn = S.Plotly.react(box.gd, data, layout, box.config);
    if (first) box.gd.on("plotly_relayout", () => drawMarks(S, box));
  }
  box.drawn = buildMarks(box.layer, view);
  measureBox(box);
}

// A heat map's z from counts: one row for each of fill.rows (-1: a gap), one column for each epoch the run has.
function heat(array, fill) {
  const columns = Array.from({length: fill.until}, (_, e) => shares(row(array, e)));
  return {x: columns.map((_, e) => e), z: fill.rows.map(bin => columns.map(c => (bin < 0 ? null : c[bin] || null)))};
}

function showPicture(S, box, {picture}) {
  if (!box.canvas?.isConnected) {
    box.canvas = element("canvas", "dy-pixels", "", box.body);
    box.canvas.setAttribute("role", "img");
    box.key = element("div", "dy-key", "", box.body);
  }
  [box.canvas.height, box.canvas.width] = picture.size;
  box.canvas.style.aspectRatio = `${picture.size[1]} / ${picture.size[0]}`;
  box.image = new ImageData(picture.size[1], picture.size[0]);
  box.table = rampTable(S.scene.ramps[picture.colors]);
  box.key.textContent = "";
  if (!picture.key) return;
  element("i", "", "", box.key).style.background = `linear-gradient(90deg, ${S.scene.ramps[picture.colors].join(", ")})`;
  for (const text of picture.key) element("span", "", text, box.key);
}

function showText(S, box, view) {
  box.body.className = "dy-body dy-text";
  box.body.textContent = view.text;
}

function showThreshold(S, box, {threshold}) {
  const kept = box.threshold ?? {form: Object.keys(threshold.curves)[0], at: 0.6};
  box.threshold = kept;
  box.body.className = "dy-body dy-threshold";
  box.body.textContent = "";
  const line = element("div", "dy-line", "", box.body);
  const forms = element("div", "dy-segments", "", line);
  for (const [form, name] of Object.entries(threshold.names)) {
    const button = element("button", "", name, forms);
    button.type = "button";
    button.onclick = () => { kept.form = form; kept.used = true; answer(); };
    button.dataset.form = form;
  }
  const slider = Object.assign(element("input", "dy-range", "", line), {type: "range", min: 0, max: 1, step: 0.002, value: kept.at});
  slider.setAttribute("aria-label", "Threshold c");
  const value = element("output", "dy-value", "", line), said = element("p", "dy-outcome", "", box.body);
  element("p", "dy-caution", threshold.text, box.body);
  const answer = () => {
    const curve = threshold.curves[kept.form], known = curve.filter(v => v > 0);
    const low = Math.log10(Math.min(...known, 1)) - 0.3, high = Math.log10(Math.max(...known, 1e-6)) + 0.2;
    const c = 10 ** (low + kept.at * (high - low)), s = stopStep(curve, c);
    for (const button of forms.children) button.setAttribute("aria-pressed", button.dataset.form === kept.form);
    slider.style.setProperty("--dy-at", kept.at); slider.style.setProperty("--dy-have", 1.1);
    value.textContent = `stop at c = ${c.toPrecision(2)}`;
    slider.setAttribute("aria-valuetext", `c = ${c.toPrecision(2)}: ${threshold.outcomes[s]}`);
    said.textContent = threshold.outcomes[s];
    S.level = kept.used ? {form: kept.form, c} : null;            // no line across the curves before anybody asks
    for (const other of S.boxes.values()) if (other.gd) drawMarks(S, other);
  };
  slider.oninput = () => { kept.at = +slider.value; kept.used = true; answer(); };
  answer();
}

function drawBox(S, box) {
  if (!box.view) return;
  for (const {line, text, note} of box.noteTexts) {
    line.hidden = S.i < 0 || S.hidden.has(note.series);
    if (!line.hidden) text.textContent = S.scene.texts[note.texts][S.i] ?? "";
  }
  if (box.kind === "fig") drawMarks(S, box);
  if (box.kind === "picture" && S.i >= 0) drawPicture(S, box);
}

function drawPicture(S, box) {
  const source = row(S.scene.arrays[box.view.picture.arr], S.i), {image, table} = box, pixels = image.width * image.height;
  const color = source.length === 3 * pixels;
  for (let p = 0, at = 0; p < pixels; p++, at += 4) {
    for (let c = 0; c < 3; c++) image.data[at + c] = color ? source[3 * p + c] : table[4 * source[p] + c];
    image.data[at + 3] = 255;
  }
  box.canvas.getContext("2d").putImageData(image, 0, 0);
}
