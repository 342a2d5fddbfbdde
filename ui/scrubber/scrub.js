// Streamlit calls the default function AGAIN with the same parentElement whenever data or theme change. Its cleanup runs
// when the page is left, but also when two runs of the script follow each other so fast that what the first drew is thrown
// away before it was sent: then the picture is taken from the page, and put there again by the second. So whatever must
// last (cursor, focus, zoom, a drag under way) lives in S, never in a closure, and S outlives a moment's absence from a
// page that is still there.
const INSTANCES = new WeakMap(), AWAY = new Map();
const ABSENCE = window.dynatAbsence ?? 10000;                    // ms; longer where a test loses pictures on a busy machine

export default function ({data, parentElement, setStateValue, setTriggerValue}) {
  const scene = unpack(data);
  let S = INSTANCES.get(parentElement);
  if (!S) {
    S = comeBack(location.pathname + " " + scene.key, parentElement) ?? begin(parentElement);
    S.place = location.pathname + " " + scene.key;
    INSTANCES.set(parentElement, S);
  }
  S.set = setStateValue; S.trigger = setTriggerValue;
  adopt(S, scene);
  drawChoices(S);
  listKeys(S);
  draw(S);                                                       // bar and sentence stand before the charts do
  loadPlotly(S.scene.plotly).then(Plotly => {
    if (INSTANCES.get(parentElement) !== S) return;
    S.Plotly = Plotly;
    build(S);
    draw(S);
    S.root.dataset.ready ??= Math.round(performance.now());
  }).catch(error => { S.$(".dy-problem").textContent = error.message; });
  return () => {
    INSTANCES.delete(parentElement);
    goAway(S);
  };
}

function begin(parentElement) {
  const S = {i: 0, hidden: new Set(), chosen: {}, asked: {}, told: {}, boxes: new Map(), root: parentElement.querySelector(".dy")};
  S.$ = selector => S.root.querySelector(selector);
  S.$$ = selector => S.root.querySelectorAll(selector);
  S.root.addEventListener("focusin", event => { S.focus = event.target; });
  S.root.addEventListener("focusout", () => setTimeout(() => {   // not when the focus goes because the picture does
    if (S.root.isConnected && !S.root.contains(document.activeElement)) S.focus = null;
  }));
  wire(S);
  return S;
}

function end(S) {
  S.stop();
  S.edge?.disconnect();
  clearBoxes(S);
}

// Taken from the page: what a person does meanwhile is kept, and said once there is somebody to say it to.
function goAway(S) {
  S.set = () => {};                                              // said again when the picture is there again
  S.trigger = () => {};
  const since = performance.now();
  AWAY.set(S.place, S);
  S.gone = setInterval(() => {                                   // the address changes after the page has gone
    if (S.place.startsWith(location.pathname + " ") && performance.now() - since < ABSENCE) return;
    if (AWAY.get(S.place) === S) AWAY.delete(S.place);
    clearInterval(S.gone);
    end(S);
  }, 50);
}

// Put there again: the same picture, charts and all, in the place of the new and empty one.
function comeBack(place, parentElement) {
  const S = AWAY.get(place);
  if (!S) return null;
  AWAY.delete(place);
  clearInterval(S.gone);
  parentElement.querySelector(".dy").replaceWith(S.root);
  if (S.reported) S.report(300);                                 // with the picture Streamlit forgot what it had said
  if (S.acted) S.actAgain();
  if (S.focus && document.activeElement === document.body) S.focus.focus({preventScroll: true});
  return S;
}

// Whose keys they are: those of the scrubber that has the focus, else of the first, else of one that is away.
function owner(target) {
  const away = [...AWAY].find(([place]) => place.startsWith(location.pathname + " "));
  return target.closest(".dy") ?? document.querySelector(".dy") ?? away?.[1].root;
}

// Take over a new scene: colours of the theme, then the cursor's place, which only a person or a jump may change.
function adopt(S, scene) {
  S.scene = scene;
  const css = getComputedStyle(S.root), theme = name => css.getPropertyValue("--st-" + name).trim();
  S.ground = theme("background-color") || "#ffffff";
  S.font = theme("font") || "sans-serif";
  S.dark = luminance(S.ground) < 0.5;
  S.root.style.colorScheme = S.dark ? "dark" : "light";
  watchEdge(S, document.querySelector("[data-testid=stHeader]")?.offsetHeight ?? 0);
  for (const [name, pair] of Object.entries(scene.colors)) S.root.style.setProperty(`--dy-${name}`, pair[S.dark ? 1 : 0]);
  S.live = scene.live; S.pace = scene.pace;
  for (const {name, value} of scene.switches) {                  // the choice made here stays until Python asks for another;
    const echo = S.told[name]?.delete(value);                    // what comes back late from our own report is no such wish
    if (S.asked[name] !== value && !echo) S.chosen[name] = value;
    S.asked[name] = value;
  }
  const end = scene.n - 1;
  if (S.run !== scene.run || S.jump !== scene.jump) {
    if (S.run !== undefined) S.report(0);
    if (S.run !== scene.run) { S.hidden.clear(); S.brush = null; }
    Object.assign(S, {run: scene.run, jump: scene.jump, follow: scene.live && scene.follow, i: scene.cursor ?? end});
  }
  S.follow &&= scene.live;
  S.hidden = new Set([...S.hidden].filter(k => k < scene.series.length));
  S.i = S.follow ? end : Math.max(Math.min(0, end), Math.min(S.i, end));
}

// The bar stays in sight below Streamlit's header; only then does it cover what scrolls by above it.
function watchEdge(S, top) {
  if (S.top === top) return;
  S.top = top;
  S.root.style.setProperty("--dy-top", `${top}px`);
  S.edge?.disconnect();
  const past = ([entry]) => S.$(".dy-bar").classList.toggle("dy-stuck", !entry.isIntersecting && entry.boundingClientRect.top < top);
  S.edge = new IntersectionObserver(past, {rootMargin: `-${top}px 0px 0px 0px`});
  S.edge.observe(S.$(".dy-edge"));
}

function luminance(color) {
  const context = document.createElement("canvas").getContext("2d");
  context.fillStyle = color;                                     // any CSS colour comes back as #rrggbb
  const part = k => parseInt(context.fillStyle.slice(k, k + 2), 16) / 255;
  return 0.21 * part(1) + 0.72 * part(3) + 0.07 * part(5);
}

function draw(S) {
  const began = performance.now();
  drawBar(S);
  drawSentence(S);
  if (S.built === S.scene) {
    for (const box of S.boxes.values()) drawBox(S, box);
    drawSelection(S);
    drawTip(S);
  }
  S.root.drawn = performance.now() - began;                      // read by benchmarks/scrub.py
  clearTimeout(S.rest);
  S.rest = setTimeout(() => rest(S), 500);
}

function drawBar(S) {
  const {scene, i} = S, range = S.$(".dy-bar .dy-range"), number = S.$(".dy-number"), end = scene.n - 1, last = Math.max(scene.last, 1);
  range.max = number.max = scene.last;
  range.disabled = number.disabled = end < 0;
  range.value = Math.max(i, 0);
  range.style.setProperty("--dy-at", Math.max(i, 0) / last);
  range.style.setProperty("--dy-have", end >= scene.last ? 1.1 : Math.max(end, 0) / last);
  range.setAttribute("aria-label", scene.unit);
  range.setAttribute("aria-valuetext", scene.texts[scene.labels]?.[i] ?? scene.empty);
  number.setAttribute("aria-label", `${scene.unit} number`);
  if (!S.typing) number.value = i < 0 ? "" : i;
  S.$(".dy-unit").textContent = scene.unit;
  S.$(".dy-of").textContent = `of ${scene.last}` + (end < scene.last && end >= 0 ? ` (${end} recorded)` : "");
  S.$(".dy-follow").hidden = !S.live;
  S.$(".dy-follow input").checked = !!S.follow;
  const latest = S.$(".dy-latest");
  latest.hidden = !S.live || S.follow || i >= end;
  latest.textContent = `you are at ${i}, go to ${end}`;
}

function drawSentence(S) {
  const box = S.$(".dy-sentence"), words = S.scene.words.find(w => matches(w.when, S.chosen));
  const parts = S.i < 0 || !words ? [S.scene.empty] : words.parts.map((texts, k) => (k && S.hidden.has(k - 1) ? "" : S.scene.texts[texts][S.i]));
  while (box.childElementCount < parts.length) element("span", "", "", box);
  while (box.childElementCount > parts.length) box.lastElementChild.remove();
  parts.forEach((text, k) => { box.children[k].textContent = text && text + " "; });
}

// When the cursor rests: say where it is to those who cannot see it.
function rest(S) {
  if (S.i < 0) return;
  S.$(".dy-said").textContent = S.$(".dy-sentence").textContent;
  for (const box of S.boxes.values()) {
    const words = [box.view?.title, ...(box.noteTexts ?? []).filter(n => !n.line.hidden).map(n =>
      (n.note.series === null ? "" : S.scene.series[n.note.series].name + ": ") + n.text.textContent)].filter(Boolean).join("; ");
    (box.kind === "picture" ? box.canvas : box.body)?.setAttribute("aria-label", words);
  }
}
