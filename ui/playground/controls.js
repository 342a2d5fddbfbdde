// Sliders, buttons, keys and the pointer; everything ends in S.adopt (settings changed) or S.ask (the point or step moved).
const NATIVE = "input:not(.pg-cursor), textarea, select, [contenteditable=true], [role=combobox], [role=listbox], [role=menu], iframe";
const calm = matchMedia("(prefers-reduced-motion: reduce)");
const KEYS = [["← →", "one step of the attack"], ["Home End", "start and last step"], ["Space", "play, pause"], ["P, then arrows", "move the point (Shift: faster)"],
  ["1 – 4", "guess"], ["Enter", "reveal"], ["[ ]", "previous and next stop"], ["N", "another random start"], ["T", "train again"], ["Z", "zoom"], ["R", "reset"], ["?", "this list"]];

function segments(S, name, options, value, pick) {
  const box = S.$(`.pg-segments[data-name=${name}]`), plan = JSON.stringify(options);
  if (box.plan !== plan) {
    box.plan = plan;
    box.textContent = "";
    box.setAttribute("role", "group");
    for (const [key, words, css] of options) {
      const button = Object.assign(document.createElement("button"), {type: "button", textContent: words, onclick: () => pick(key), className: css ?? ""});
      button.dataset.value = key;
      box.append(button);
    }
  }
  for (const button of box.children) button.setAttribute("aria-pressed", button.dataset.value === String(value));
}

function drawControls(S) {
  const {now} = S, set = changes => { Object.assign(S.now, changes); S.adopt(); };
  const slider = (name, value, words) => {
    const input = S.$(`.pg-controls [name=${name}]`);
    input.value = value;
    input.setAttribute("aria-valuetext", words);
    input.parentElement.querySelector("output").textContent = words;
    input.style.setProperty("--pg-at", (value - input.min) / (input.max - input.min));
  };
  slider("eps", now.eps, `eps = ${short(now.eps)}`);
  slider("pace", now.pace, `${PACE_WORDS[now.pace]} = ${short(alpha(now))}`);
  slider("steps", now.steps, String(now.steps));
  segments(S, "start", [["0", "the clean point"], ["1", "at random"]], now.start ? 1 : 0, key => set({start: key === "1" ? 1 : 0}));
  segments(S, "norm", [["linf", "square (L-inf)"], ["l2", "disc (L2)"]], now.norm, norm => set({norm}));
  segments(S, "label", NAMES.slice(0, CLASSES[now.data]).map((n, k) => [k, `${SHAPES[k]} ${n}`]), now.label, label => set({label}));
  segments(S, "data", [["three", "three"], ["moons", "moons"], ["rings", "rings"]], now.data, data => { set({data, x: [...HOME[data][0]], label: HOME[data][1]}); });
  segments(S, "strategy", Object.entries(STRATEGY_NAMES).map(([k, n]) => [k, n, `pg-${k}`]), now.strategy, strategy => {
    Object.assign(S.now, {strategy, trained: S.now.eps});
    if (MODELS.has(modelKey(S.now))) S.adopt(); else trainVisibly(S, calm.matches);
  });
  S.$(".pg-score").innerHTML = scoreWords(S.run);
  const press = (what, on) => S.$(`[data-do=${what}]`).setAttribute("aria-pressed", on);
  press("zoom", !!now.zoom);
  press("teach", S.teach);
  S.$("[data-do=teach]").textContent = S.teach ? "Leave teacher mode" : "Teacher mode";
  S.$("[data-do=start]").disabled = !now.start;
  S.$("[data-do=save]").hidden = !S.data.offline;
  for (const sheet of ["worksheet", "notes"]) S.$(`[data-do=${sheet}]`).hidden = !S.data[sheet];
}

const ACTIONS = {
  first: S => S.step(0), back: S => S.step(S.now.step - 1), on: S => S.step(S.now.step + 1), last: S => S.step(1e9),
  play: S => S.play(!S.playing),
  zoom: S => { S.now.zoom = S.now.zoom ? 0 : 1; S.adopt(); },
  start: S => { if (!S.now.start) return; S.now.start = S.now.start % 999 + 1; S.ask(); },
  train: S => { Object.assign(S.now, {seed: S.now.seed % 999 + 1, trained: S.now.eps}); trainVisibly(S, calm.matches); },
  reset: S => { S.moved = false; S.endTraining?.(); S.now = {...beginning(S.now.lesson)}; enterStop(S, S.now.lesson); S.say("Reset."); },
  reveal, next: S => enterStop(S, S.now.lesson + 1), previous: S => enterStop(S, S.now.lesson - 1),
  help: S => { const dialog = S.$(".pg-keys"); dialog.open ? dialog.close() : dialog.showModal(); },
  theme: S => { const page = document.documentElement; page.dataset.theme = S.dark ? "light" : "dark"; S.colors(); S.adopt(); },
  teach: S => { S.setTeach(!S.teach); },
  link: S => {
    S.writeLink();
    const said = () => S.say(location.href);
    navigator.clipboard ? navigator.clipboard.writeText(location.href).then(() => S.say("The link is on the clipboard."), said) : said();
  },
  worksheet: S => openSheet(S.data.worksheet), notes: S => openSheet(S.data.notes),
  save: S => {
    const settings = writeAddress("", S.now, beginning).replaceAll("&", "&amp;").replaceAll('"', "&quot;");
    const file = new Blob([S.data.offline.replace('data-settings=""', () => `data-settings="${settings}"`)], {type: "text/html"});
    const link = Object.assign(document.createElement("a"), {href: URL.createObjectURL(file), download: "dynat-learn.html"});
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
    S.say("dynat-learn.html opens in any browser, without a network.");
  },
};

function openSheet(html) {
  const address = URL.createObjectURL(new Blob([html], {type: "text/html"}));
  open(address, "_blank");
  setTimeout(() => URL.revokeObjectURL(address), 60000);
}

function wire(S) {
  S.root.addEventListener("click", event => {
    const target = event.target.closest("[data-do], [data-guess], [data-stop], a[data-page]");
    if (!target || target.disabled) return;
    if (target.dataset.do) ACTIONS[target.dataset.do](S);
    else if (target.dataset.guess) S.guess(+target.dataset.guess);
    else if (target.dataset.stop) enterStop(S, +target.dataset.stop);
    else if (S.leave && !event.ctrlKey && !event.metaKey && !event.shiftKey) {       // stay in this session where that is possible
      event.preventDefault();
      S.leave(target.dataset.page, target.dataset.query);
    }
  });
  S.$(".pg-cursor").oninput = event => S.step(+event.target.value);
  S.$(".pg-controls").onsubmit = event => event.preventDefault();
  S.$(".pg-controls").oninput = event => {
    S.now[event.target.name] = +event.target.value;
    S.now.step = Math.min(S.now.step, S.now.steps);
    event.target.name === "eps" && S.now.zoom ? S.adopt() : S.ask();
  };
  wirePointer(S);
  const list = S.$(".pg-keys dl");
  for (const [key, words] of KEYS) list.append(Object.assign(document.createElement("dt"), {textContent: key}), Object.assign(document.createElement("dd"), {textContent: words}));
  const keys = event => pressed(S, event);
  addEventListener("keydown", keys, true);                       // before Streamlit's own keys (R reruns, C clears)
  S.unwire = () => removeEventListener("keydown", keys, true);
}

function wirePointer(S) {
  const grip = S.plane.x, root = S.plane.root;
  let hold = null;
  grip.onpointerdown = event => {
    if (event.button) return;
    const x = S.toPixel(S.now.x), box = root.getBoundingClientRect();
    hold = [x[0] - (event.clientX - box.left), x[1] - (event.clientY - box.top)];
    grip.setPointerCapture(event.pointerId);
    S.root.classList.add("pg-dragging");
  };
  grip.onpointermove = event => {
    if (!hold) return;
    const box = root.getBoundingClientRect();
    S.move(S.toPoint([event.clientX - box.left + hold[0], event.clientY - box.top + hold[1]]));
  };
  grip.onpointerup = grip.onpointercancel = () => {
    if (!hold) return;
    hold = null;
    S.root.classList.remove("pg-dragging");
    if (S.now.zoom) S.adopt();                                   // the view follows when the hand lets go
  };
  for (const name of ["relative", "fosc", "loss"]) {
    const {element} = S.charts[name];
    const seek = event => {
      const box = element.getBoundingClientRect(), left = 2.5 * (S.size - 3) + 8;
      S.step(Math.round(S.now.steps * (event.clientX - box.left - left) / (box.width - 9 - left)));
    };
    element.onpointerdown = event => { element.setPointerCapture(event.pointerId); seek(event); };
    element.onpointermove = event => { if (event.buttons) seek(event); };
  }
}

function pressed(S, event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || !S.root.isConnected) return;
  const target = event.target instanceof Element ? event.target : document.body;
  if (target.closest("dialog, [role=dialog]") || target.closest(NATIVE)) return;
  if ((event.key === " " || event.key === "Enter") && target.closest("button, a, summary")) return;
  if (!act(S, event, target)) return;
  event.preventDefault();
  event.stopImmediatePropagation();
}

function act(S, event, target) {
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key, onPoint = target === S.plane.x;
  const ways = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1]};
  if (onPoint && ways[key]) {
    const far = event.shiftKey ? 0.05 : 0.01;
    S.move([0, 1].map(i => Math.round(1000 * (S.now.x[i] + far * ways[key][i])) / 1000));
    return true;
  }
  const names = {ArrowLeft: "back", ArrowRight: "on", Home: "first", End: "last", " ": "play", r: "reset", n: "start", t: "train", z: "zoom", "?": "help", "[": "previous", "]": "next"};
  if (names[key]) ACTIONS[names[key]](S);
  else if (key === "Enter" && waiting(S)) reveal(S);
  else if (key === "p") S.plane.x.focus();
  else if (/^[1-4]$/.test(key) && waiting(S)) S.guess(+key - 1);
  else return false;
  return true;
}
