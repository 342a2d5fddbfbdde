// Networks in the browser: trained at once for a link, or before the visitor's eyes for a press of the button.
const MODELS = new Map();
const HOME = {three: [[0.25, 0.5], 1], moons: [[0.65, 0.7], 0], rings: [[0.5, 0.4], 0]};
const STRATEGY_NAMES = {unsecured: "Unsecured", standard: "Standard", dynamic: "Dynamic"};

const modelKey = now => [now.data, now.strategy, now.seed, now.strategy === "unsecured" ? "" : now.trained].join(" ");
const recipe = now => ({data: now.data, strategy: now.strategy, seed: now.seed, eps: now.trained});

// The network that these settings name; trained now if it has not been yet (tens to hundreds of milliseconds).
function modelOf(now) {
  const key = modelKey(now);
  if (!MODELS.has(key)) {
    const run = prepare(recipe(now));
    while (run.epoch < run.epochs) trainEpoch(run);
    MODELS.set(key, run);
  }
  return MODELS.get(key);
}

// Train in front of the visitor in about a second; `calm` shows only the result.
function trainVisibly(S, calm) {
  S.endTraining?.();
  if (calm) { S.adopt(); return; }
  const run = prepare(recipe(S.now)), key = modelKey(S.now), began = performance.now();
  let frame = 0, painted = 0;
  const on = () => {
    const due = Math.min(run.epochs, Math.ceil(run.epochs * (performance.now() - began) / 800));
    while (run.epoch < due) trainEpoch(run);
    if (run.epoch >= run.epochs) {
      MODELS.set(key, run);
      S.endTraining = null;
      S.adopt();
      return;
    }
    if (performance.now() - painted > 90) {
      painted = performance.now();
      S.take(run);
      paintGround(S);
      layGround(S);
      S.follow();
      S.$(".pg-score").textContent = `Training, epoch ${run.epoch} of ${run.epochs}`;
    }
    frame = requestAnimationFrame(on);
  };
  S.endTraining = () => { cancelAnimationFrame(frame); S.endTraining = null; };
  on();
}

// What the training came to, in one line, with what stands behind each number.
function scoreWords(run) {
  const scored = run.scored ?? score(run);
  if (run.epoch >= run.epochs) run.scored = scored;              // of a network that is still learning it holds for now
  const {n, clean, robust} = scored, [low, high] = wilson(robust, n), share = v => Math.round(100 * v);
  const cost = run.strategy === "unsecured" ? "" : ` It took ${(run.gradients / run.points.x.length / run.epochs).toFixed(1)} of ${RECIPE.steps} attack gradients per point and epoch.`;
  return `<b>${STRATEGY_NAMES[run.strategy]}</b>: right on ${share(clean / n)} % of ${n} fresh points, on ${share(robust / n)} % (${share(low)} to ${share(high)}) after PGD-20 with eps ${short(run.eps)}, one start.${cost}`;
}
