// The tour: stops that explain, questions that are answered before they are revealed, and ways on to real pictures.
// set: what the stop changes in the settings. hide: what a waiting question keeps back. right(S): the answer, computed.
const WAITING = {future: true};
const FROM_X = {data: "three", strategy: "unsecured", seed: 1, x: [0.4, 0.35], label: 1, norm: "linf", eps: 0.18, pace: 2, steps: 10, start: 0, step: 0, zoom: 0};

const STOPS = [
  {
    title: "Touch it",
    text: `An image with two pixels is a point in this square, and the colours are what a small network calls it. The attack may move the point anywhere in the
      <b>outlined square</b>: at most eps in each pixel. It wants the loss to rise. <b>Drag the point</b>, then press <b>Play</b> and watch the attack walk.`,
  },
  {
    title: "Which corner?", ask: "From here one step of the attack heads for one corner of the square. Which one?", set: {...FROM_X, zoom: 1, steps: 4},
    options: ["upper left", "upper right", "lower left", "lower right"], hide: {arrow: true, best: true, reach: true, side: true, future: true, corners: false, equation: true},
    right: S => { const g = S.path[0].grad; return (g[1] > 0 ? 0 : 2) + (g[0] > 0 ? 1 : 0); },
    why: `The thin lines join places of equal loss; the arrow points straight uphill. The step asks each pixel only one thing: up or down? So it heads for the corner on
      the arrow's side, not along the arrow. That corner is where a straight slope would be highest: the <b>best corner</b>.`,
    after: {step: 1},
  },
  {
    title: "FOSC is a length", set: {...FROM_X, zoom: 1, steps: 4},
    text: `The thick bar shows how far <b>uphill</b> the best corner lies. Times the steepness, it is how much more loss the straight line promises there: <b>FOSC</b>. In the
      side view it is the bracket, measured on the axis of the loss. The real loss may gain less or more.`,
  },
  {
    title: "When is nothing left?", ask: "The attack starts in the middle. Each step is a quarter of eps. After how many steps is no slope left to use?", set: FROM_X,
    options: ["1 step", "2 steps", "4 steps", "10 steps"], hide: {...WAITING, reach: true},
    right: S => { const k = S.path.findIndex(s => s.relative !== null && s.relative < 0.02); return k < 0 || k > 7 ? 3 : k > 2 ? 2 : k > 1 ? 1 : 0; },
    why: `Every step uses up some slope; <b>relative FOSC</b> is what is left. Each step takes a quarter away, so after four the point sits in the corner: 1, .75, .50, .25, 0.
      The dotted line is what a perfectly straight slope would give. Stopping here would save the other six steps.`,
    play: true,
  },
  {
    title: "Smaller steps?", ask: "Now halve the step: an eighth of eps. Will the attack need fewer steps, the same, or more?", set: {...FROM_X, step: 4}, options: ["fewer", "the same", "more"],
    hide: {future: true}, right: () => 2, after: {pace: 1, step: 0},
    why: `More: eight. The way to the corner is as long as before. Small steps pay off where the slope bends on the way; then a long step can run past the top.`, play: true,
  },
  {
    title: "FOSC rises. Is it failing?", ask: "Two steps in, FOSC in nats has gone <b>up</b> twice. Is the attack failing?", set: {...FROM_X, step: 2},
    options: ["yes, it is lost", "no, it works"], hide: {...WAITING, loss: true, relative: true, middle: true, equation: true, real: true, sentence: true}, right: () => 1,
    why: `It works: the loss rose at both steps. FOSC is what is left times the steepness, and the slope grew steeper faster than the way grew shorter (dotted line: what this
      slope would promise from the middle). Divide by it and you have relative FOSC, which fell. So: relative FOSC first, and the steepness beside it.`,
  },
  {
    title: "FOSC is 0. What do we know?", ask: "This attack has come to rest: FOSC 0, and the class is still right. What have we learnt?",
    set: {...FROM_X, x: [0.7, 0.45], label: 2, start: 27, step: 10, zoom: 1}, hide: {},
    options: ["no attack can fool it here", "no other attack does better", "only that the slope offers no way up"], right: () => 2, other: 1,
    why: `Only that. Another start, the dashed path, rests with FOSC 0 too, and there the network is <b>fooled</b>. FOSC 0 means the slope offers no allowed direction that raises
      the loss: a best point, a poorer resting place and a vanished gradient all look like this.`,
  },
  {
    title: "Now a real image", set: {},
    text: `The same with 64 pixels: a handwritten digit, a trained network, ten recorded steps. Watch at which step it becomes another digit, and what FOSC does on the way.`,
    go: [["trajectory", "run=demo-digits-unsecured&step=0", "A digit, step by step"], ["trajectory", "run=demo-digits-standard&step=0", "The same, trained against attacks"]],
  },
  {
    title: "Now a real training", set: {},
    text: `Dynamic training stops attacking an image once its FOSC is at or below the epoch's threshold, or its steps run out; the threshold falls to zero, so early epochs
      accept less finished attacks. Who does less work, and when?`,
    go: [["epochs", "run=demo-digits-dynamic,demo-digits-standard&epoch=0", "Two trainings, epoch by epoch"]],
  },
];

// The settings a stop begins with; 0 is free play.
const beginning = lesson => ({...DEFAULTS, ...(STOPS[lesson - 1]?.set ?? {}), lesson});

function lessonStop(S) { return STOPS[S.now.lesson - 1]; }

const waiting = S => !!lessonStop(S)?.options && !S.revealed;

function enterStop(S, lesson) {
  const next = Math.max(0, Math.min(STOPS.length, lesson)), stop = STOPS[next - 1];
  S.play(false);
  Object.assign(S, {chosen: null, revealed: false, other: null});
  S.now = stop?.set && Object.keys(stop.set).length ? {...S.now, ...stop.set, lesson: next} : {...S.now, lesson: next};
  S.adopt();
}

function reveal(S) {
  const stop = lessonStop(S);
  if (!waiting(S)) return;
  S.play(false);
  S.answer = stop.right(S);
  S.revealed = true;
  Object.assign(S.now, stop.after);
  S.adopt();
  if (stop.play) S.play(true, true);
}

function drawLesson(S) {
  const stop = lessonStop(S), box = S.$(".pg-lesson"), {lesson} = S.now;
  const plan = JSON.stringify([lesson, S.revealed, S.chosen, S.teach, S.offline]);
  if (S.lessonPlan === plan) return;
  const focus = box.contains(document.activeElement) ? document.activeElement.dataset.focus : null;
  S.lessonPlan = plan;
  S.root.classList.toggle("pg-asking", !!stop?.options);         // settings that would change the question stay out of the way
  if (!stop) {
    box.innerHTML = `<div class="pg-head"><b>Explore freely</b><span class="pg-step"><button type="button" data-do="next" data-focus="next">Take the tour</button></span></div>`;
    return;
  }
  const dots = STOPS.map((s, k) => `<button type="button" class="pg-pip${s.options ? " pg-ask" : ""}" data-stop="${k + 1}" data-focus="s${k + 1}" aria-label="Stop ${k + 1}: ${s.title}" title="${s.title}"
    ${k + 1 === lesson ? 'aria-current="step"' : ""}></button>`).join("");
  const options = (stop.options ?? []).map((words, k) => {
    const state = S.revealed ? (k === S.answer ? " pg-right" : k === S.chosen ? " pg-wrong" : "") : "";
    if (S.revealed && !state) return "";
    return `<button type="button" class="pg-option${state}" data-guess="${k}" data-focus="g${k}" aria-pressed="${k === S.chosen}" ${S.revealed ? "disabled" : ""}><kbd>${k + 1}</kbd>${words}${
      state === " pg-right" ? " <b>✓</b>" : state === " pg-wrong" ? " <b>✗</b>" : ""}</button>`;
  }).join("");
  const go = (stop.go ?? []).map(([page, query, words]) => (S.offline ? `<p class="pg-way">${words}: in Dynat itself, <code>${page}?${query}</code></p>` :
    `<a class="pg-go" href="${page}?${query}${S.teach ? "&teach=1" : ""}" data-page="${page}" data-query="${query}">${words} →</a>`)).join("");
  box.innerHTML = `<div class="pg-head"><b>${stop.title}</b><small>${waiting(S) ? "guess first · " : ""}${lesson} of ${STOPS.length}</small></div>
    <p>${stop.ask ?? stop.text}</p>${options ? `<div class="pg-options">${options}</div>` : ""}
    ${stop.options && !S.revealed ? `<button type="button" class="pg-reveal" data-do="reveal" data-focus="reveal">Reveal</button>` : ""}
    ${S.revealed ? `<p class="pg-why" role="status">${S.chosen === null ? "" : S.chosen === S.answer ? "<b>Right.</b> " : "<b>Not quite.</b> "}${stop.why}</p>` : ""}${go}
    <div class="pg-tour"><button type="button" data-do="previous" data-focus="previous" aria-label="Previous stop" ${lesson === 1 ? "disabled" : ""}>‹</button><span class="pg-pips">${dots}</span>
    <button type="button" data-do="next" data-focus="next" class="${S.revealed || !stop.options ? "pg-main-button" : ""}" ${lesson === STOPS.length ? "disabled" : ""}>Next ›</button></div>`;
  if (focus) [focus, "next", "previous"].map(name => box.querySelector(`[data-focus=${name}]:not(:disabled)`)).find(Boolean)?.focus();
}

// What stands above the picture: one sentence about the step, in plain words.
function sentence(S) {
  const {now, path, hide} = S, here = path[now.step], before = path[now.step - 1], set = now.norm === "linf" ? "square" : "disc";
  if (waiting(S) && hide.sentence) return [`Step ${now.step} of ${now.steps}.`, "Look at the charts, guess, then reveal."];
  if (waiting(S) && hide.arrow) return ["Before the first step.", "The arrow and the best corner are hidden until you have guessed."];
  const head = now.step ? `Step ${now.step} of ${now.steps}.` : "Before the first step.", words = [];
  if (!(here.steepness > 0)) return [head, "The slope is exactly 0 here: the attack cannot move, and FOSC is 0 without anything having been reached."];
  const fooled = winner(here.logits) !== now.label, done = here.relative !== null && here.relative < 0.005;
  if (done) words.push("The slope offers no allowed way up any more: FOSC is 0, the attack rests here.");
  else words.push(`The slope promises ${short(here.fosc)} more loss, ${percent(here.relative)} of what it would from the middle of the ${set}.`);
  if (before && here.fosc > before.fosc * 1.001 && here.relative < before.relative) words.push("FOSC rose because the slope grew steeper.");
  else if (before && here.loss < before.loss - 1e-9) words.push("This step lost ground: it ran past the top.");
  if (winner(look(S.net, now.x, now.label).logits) !== now.label) words.push(`The network is wrong here even without an attack: it says ${NAMES[winner(here.logits)]}.`);
  else words.push(fooled ? `Fooled: it says ${NAMES[winner(here.logits)]}.` : done && !waiting(S) ? "Still right; another start may end elsewhere." : "Still right.");
  return [head, words.join(" ")];
}
