// Streamlit calls the default function AGAIN with the same parentElement when data or theme change; whatever must last lives
// in S. The same function runs the page saved as one file (ui/playground/offline.py).
const INSTANCES = new WeakMap();

export default function mount({data, parentElement, setTriggerValue}) {
  let S = INSTANCES.get(parentElement);
  const first = !S;
  if (first) {
    S = {root: parentElement.querySelector(".pg"), drawn: [], data, offline: !setTriggerValue};
    S.$ = selector => S.root.querySelector(selector);
    S.$$ = selector => S.root.querySelectorAll(selector);
    INSTANCES.set(parentElement, S);
    buildPlane(S);
    equip(S);
    sizeCharts(S);
    wire(S);
    const {now, problems} = readAddress(whereToBegin(data), beginning);
    S.now = now;
    S.$(".pg-problem").textContent = problems.join(" ");
    S.$(".pg-theme").hidden = !S.offline;
    S.$(".pg-more div").innerHTML = MORE;
  }
  S.data = data;
  S.leave = setTriggerValue && ((page, query) => { S.writeLink(); setTriggerValue("go", {page, query}); });
  S.teachOn(new URLSearchParams(location.search).get("teach") === "1" || !!data.teach);
  S.trigger = setTriggerValue;
  S.adopt();
  if (first) {
    S.watch = new ResizeObserver(() => { if (S.root.clientWidth) S.adopt(); });
    S.watch.observe(S.$(".pg-main"));
    S.root.dataset.ready = Math.round(performance.now());
  }
  return () => {
    INSTANCES.delete(parentElement);
    window.dynatLearn = writeAddress("", S.now, beginning);
    S.watch.disconnect();
    S.play(false);
    S.endTraining?.();
    S.unwire();
    clearTimeout(S.resting);
    cancelAnimationFrame(S.asked);
  };
}

// The address if it says anything; else where this page was when it was last left in this tab, or what was saved with the file.
function whereToBegin(data) {
  const asked = new URLSearchParams(location.search);
  const ours = !asked.has("run") && Object.keys(ADDRESS).some(name => asked.has(name));     // Back passes by another screen's query
  return ours ? location.search : window.dynatLearn ?? data.settings ?? "";
}

const MORE = `<p><b>What this shows.</b> A loss with two inputs, what the attack (PGD) does on it, and FOSC along the way, computed here in your browser.
  <b>What it does not show.</b> With hundreds of pixels the square has far more corners and the slope bends more often; whether an attack converged on your model is measured on the
  other screens. A low FOSC shows neither a strong attack nor a safe model.</p>
  <p><b>FOSC, box form:</b> c(z) = max ⟨z′ − z, g⟩ over all z′ that lie within eps of x <i>and</i> within the pixel box; g is the gradient of the cross-entropy loss at z, in nats per pixel.
  In the picture the thick bar is ⟨z′ − z, g⟩ / ‖g‖₂, in pixels on the picture's own scale; times ‖g‖₂ it is FOSC. In the side view the bracket is FOSC itself, in nats, on the axis of the loss.</p>
  <p><b>Paper form:</b> eps‖g‖₁ − ⟨z − x, g⟩, the same without the pixel box (a disc: ‖g‖₂). The two differ only where the set reaches over the edge: drag the point there.</p>
  <p><b>Relative FOSC:</b> box form, c divided by Σ|gᵢ|(uᵢ − lᵢ)/2, what the same slope promises from the middle of the set (disc: half its width along g, times ‖g‖₂); paper form, c / (eps‖g‖₁).
  <b>Expected</b> on a straight slope, paper form, k steps of a·eps: (2 − ka)²/4 on average over random starts, 1 − ka from x, then 0; for a disc with random starts none is drawn.</p>
  <p><b>Training:</b> 12 tanh units, full-batch Adam, 160 epochs (Unsecured 200), 60 points of each class; attack PGD-10, alpha eps/4, random start, L-inf; Dynamic: c_max .25, box form, threshold 0 after
  four fifths of the epochs. One small run each: no comparison of methods.</p>`;

function equip(S) {
  S.colors = () => {
    const css = getComputedStyle(S.root), pen = document.createElement("canvas").getContext("2d");
    const hex = name => { pen.fillStyle = css.getPropertyValue("--st-" + name).trim() || "#888888"; return pen.fillStyle; };
    S.ground = hex("background-color");
    S.ink = hex("text-color");
    S.dark = parts(S.ground)[1] < 128;
    S.root.style.colorScheme = S.dark ? "dark" : "light";
    S.root.classList.toggle("pg-dark", S.dark);
  };
  S.teachOn = on => { S.teach = on; S.root.classList.toggle("pg-teach", on); };
  S.setTeach = on => {
    const asked = new URLSearchParams(location.search);
    if (on) asked.set("teach", "1"); else asked.delete("teach");
    S.address(asked.toString());
    S.teachOn(on);
    S.adopt();
    S.trigger?.("go", {page: "learn", query: ""});               // the menu's links follow
  };
  S.take = run => { S.run = run; S.net = run.net; S.points = run.points; };
  S.say = words => { S.$(".pg-done").textContent = words; };
  S.address = query => {
    try { history.replaceState(history.state, "", location.pathname + (query ? "?" + query : "") + location.hash); } catch { /* some browsers refuse this for files */ }
  };
  S.writeLink = () => {
    window.dynatLearn = writeAddress("", S.now, beginning);      // lasts as long as the document
    S.address(writeAddress(location.search, S.now, beginning));
  };
  motion(S);
}

// How settings become a picture: adopt for everything, follow for what the point and the step move.
function motion(S) {
  S.adopt = () => {
    S.endTraining?.();
    S.colors();
    drawStaticWords(S);
    S.size = parseFloat(getComputedStyle(S.root).fontSize);
    S.take(modelOf(S.now));
    S.view = viewOf(S.now);
    sizePlane(S);
    S.root.style.setProperty("--pg-tall", `${Math.max(S.$(".pg-picture").offsetHeight, 560)}px`);
    sizeCharts(S);
    if (!S.plane.size) return;
    S.scale = S.plane.size / S.view.span;
    const ground = JSON.stringify([modelKey(S.now), S.view, S.plane.size, S.now.label, S.dark, S.size]);
    if (S.groundPlan !== ground) { paintGround(S); layGround(S); S.groundPlan = ground; }
    drawControls(S);
    S.follow();
  };
  S.toPixel = p => [(p[0] - S.view.left) * S.scale, S.plane.size - (p[1] - S.view.low) * S.scale];
  S.toPoint = p => [S.view.left + p[0] / S.scale, S.view.low + (S.plane.size - p[1]) / S.scale];
  S.follow = () => {
    const began = performance.now(), {now} = S, stop = lessonStop(S);
    S.hide = waiting(S) ? {...stop.hide} : {};
    S.path = pathOf(S.net, now);
    S.other = S.revealed && stop?.other ? pathOf(S.net, now, stop.other) : null;
    if (S.meanOf !== meanKey(S)) S.mean = null;
    drawPlane(S);
    drawPanels(S);
    drawBar(S);
    drawLesson(S);
    S.drawn.push(performance.now() - began);
    if (S.drawn.length > 2000) S.drawn.splice(0, 1000);
    S.root.drawn = S.drawn;                                      // read by tests: milliseconds per drawing
    clearTimeout(S.resting);
    S.resting = setTimeout(() => rest(S), 350);
  };
  S.ask = () => { S.asked ||= requestAnimationFrame(() => { S.asked = 0; drawControls(S); S.follow(); }); };
  S.move = point => {
    S.now.x = point.map(v => Math.round(1e4 * Math.min(Math.max(v, LOW), HIGH)) / 1e4);
    S.moved = true;
    const inside = !S.now.zoom || S.root.classList.contains("pg-dragging");
    if (inside) S.asked ||= requestAnimationFrame(() => { S.asked = 0; S.follow(); }); else S.adopt();
  };
  const last = () => (waiting(S) && S.hide.future ? beginning(S.now.lesson).step : S.now.steps);    // a question holds the cursor
  S.step = k => {
    const hold = last();
    if (k > hold && hold < S.now.steps) S.say("Guess first, then reveal (Enter).");
    S.now.step = Math.max(0, Math.min(k, hold));
    S.ask();
  };
  S.play = (on, fromStart) => {
    clearInterval(S.playing);
    S.playing = 0;
    const button = S.$(".pg-play");
    button.classList.toggle("pg-on", on);
    button.setAttribute("aria-label", on ? "Pause" : "Play");
    if (!on) return;
    if (fromStart || S.now.step >= last()) S.step(0);
    S.playing = setInterval(() => (S.now.step >= last() ? S.play(false) : S.step(S.now.step + 1)), S.teach ? 1000 : calm.matches ? 700 : 420);
  };
  S.guess = k => {
    if (!waiting(S) || k >= lessonStop(S).options.length) return;
    S.chosen = S.chosen === k ? null : k;
    S.follow();
  };
}

const meanKey = S => JSON.stringify([modelKey(S.now), S.now.x, S.now.label, S.now.eps, S.now.pace, S.now.steps, S.now.norm]);

// When the hand rests: the link follows, the mean over many starts is added, and the sentence is said to who cannot see it.
function rest(S) {
  S.writeLink();
  S.$(".pg-said").textContent = S.$(".pg-sentence").textContent;
  if (!S.now.start || S.teach || S.hide.relative || S.mean) return;
  S.meanOf = meanKey(S);
  S.mean = meanRelative(S.net, ball(S.now), S.now.label, alpha(S.now), S.now.steps, FORMULA_STARTS, 9);
  drawRelative(S);
}

function drawBar(S) {
  const {now, path, hide} = S, range = S.$(".pg-cursor"), here = path[now.step], [head, words] = sentence(S), set = (selector, text) => {
    const box = S.$(selector);
    if (box.textContent !== text) box.textContent = text;
  };
  range.max = now.steps;
  range.value = now.step;
  range.style.setProperty("--pg-at", now.step / now.steps);
  range.setAttribute("aria-valuetext", `step ${now.step} of ${now.steps}`);
  set(".pg-at", String(now.step));
  set(".pg-of", `of ${now.steps}`);
  const html = `<b>${head}</b> ${words}`, box = S.$(".pg-sentence");
  if (box.shown !== html) box.innerHTML = box.shown = html;
  const says = winner(here.logits);
  set(".pg-reads", hide.future ? "" : `says ${SHAPES[says]} ${NAMES[says]}, is ${SHAPES[now.label]} ${NAMES[now.label]}`);
  const reach = here.steepness > 0 ? here.fosc / here.steepness : 0, paper = S.teach ? "" : ` <span>paper form ${short(here.paper)}</span>`;
  const equation = hide.equation ? "&nbsp;" : `<i class="pg-bar-sample"></i> ${short(reach)} uphill <span>×</span> steepness ${short(here.steepness)} <span>=</span> <b>FOSC ${short(here.fosc)}</b>${paper}`;
  const line = S.$(".pg-equation");
  if (line.shown !== equation) line.innerHTML = line.shown = equation;
}

function drawStaticWords(S) {
  const {now} = S, best = now.norm === "linf" ? "best corner" : "best point", key = [now.norm, now.label, S.dark].join();
  if (S.legend === key) return;
  S.legend = key;
  const mark = (path, css, fill = "") => `<svg viewBox="-14 -14 28 28"><path class="${css}" d="${path}" ${fill ? `fill="${fill}"` : ""}/></svg>`;
  S.$(".pg-legend").innerHTML = [[mark(shapePath(now.label, 0, 0, 8), "pg-x-shape", hues(S)[now.label]), "clean image x"], [mark(shapePath(0, 0, 0, 8), "pg-now"), "where the attack is, z"],
    [mark(arrowPath([-12, 7], [12, -7]), "pg-arrow"), "uphill, longer = steeper"], [mark(star(0, 0, 11), "pg-best"), `${best} z′`], [mark("M-12 0H12", "pg-reach"), "how far uphill z′ lies"]]
    .map(([icon, words]) => `<span>${icon}${words}</span>`).join("");
}
