// What the quizzes need on top of jupyterquiz, which counts an empty field as 0, drops
// commas and the minus sign "−", refuses a paste, empties a field that is entered again,
// and writes dark on dark. Everything else (choices, layout, feedback) is left to it.
// It also keeps the first answer to each item for the notebook review.ipynb.
(() => {
  if (window.courseQuiz) return; // once for all quizzes of a page
  window.courseQuiz = true;

  // Return the number in `text`, such as -0.5, 1,5, 1e-6 or 1/3; an Error says what is wrong.
  function parseNumber(text) {
    const plain = text.trim().replace(/[−–]/g, "-");
    if (!plain) throw Error("Type a number first.");
    if (/^[+-]?[1-9]\d{0,2},\d{3}$/.test(plain))
      throw Error(`${plain} can be read in two ways; write ${plain.replace(",", "")} or ${plain.replace(",", ".")}.`);
    const parts = plain.split("/").map(part => part.trim());
    const good = parts.every(part => /^[+-]?(\d+([.,]\d*)?|[.,]\d+)(e[+-]?\d+)?$/i.test(part));
    const [above, below = 1] = parts.map(part => Number(part.replace(",", ".")));
    if (!good || parts.length > 2 || !Number.isFinite(above / below))
      throw Error("This is not a number; write it like −0.525, 1e-6 or 1/3.");
    return above / below;
  }

  // Return [right, feedback] for the `number`, with so many significant `digits` (0: exact).
  function mark(answers, digits, number) {
    const right = answers.find(answer => answer.correct);
    const size = right.value && digits ? 10 ** (Math.floor(Math.log10(Math.abs(right.value))) + 1 - digits) : 0;
    const near = value => Math.abs(number - value) <= 0.5 * size + 1e-9 * Math.abs(value);
    const hit = answer => answer.range
      ? answer.range[0] <= number && number < answer.range[1] : answer.type === "value" && near(answer.value);
    const found = [right, ...answers].find(hit) ?? answers.find(answer => answer.type === "default");
    return [found === right, found.feedback];
  }

  // Keep the first answer to the item of a `quiz`, in Jupyter alone: there the review can get it.
  function keep(quiz, right) {
    const names = getComputedStyle(quiz).getPropertyValue("--items").trim().split(" ");
    const item = names[quiz.dataset.qnum];
    if (!item || quiz.dataset.kept || !document.getElementById("jupyter-config-data")) return;
    quiz.dataset.kept = "yes";
    try {
      localStorage.setItem(`course-quiz ${item} ${new Date().toISOString()}`, right);
    } catch {} // storage is full or forbidden; the quiz works all the same
  }

  function answer(field) {
    const box = document.getElementById("fb" + field.id.split("-")[0]);
    let right = null, text;
    try {
      [right, text] = mark(JSON.parse(field.dataset.answers), Number(field.dataset.precision ?? 0),
        parseNumber(field.value));
      box.innerHTML = text;
    } catch (error) {
      box.textContent = error.message;
    }
    const state = right === null ? "" : right ? "correct" : "incorrect";
    box.className = `Feedback ${state}`.trim();
    box.style.display = "block";
    field.className = `Input-text ${state && state + "Button"}`.trim();
    if (state) keep(field.closest(".Quiz"), right);
  }

  // A choice is wrong at its first wrong click, and right when all that is right is clicked.
  document.addEventListener("click", event => {
    const chosen = event.target.closest?.(".Quiz .MCButton");
    if (!chosen) return;
    const all = [...chosen.parentElement.querySelectorAll("[data-correct=true]")];
    if (!all.includes(chosen)) keep(chosen.closest(".Quiz"), false);
    else if (all.every(one => one === chosen || one.matches(".correctButton"))) keep(chosen.closest(".Quiz"), true);
  }, true);

  // Events reach the document before the field, so jupyterquiz' own handlers stay silent.
  for (const kind of ["keypress", "paste", "focus"])
    document.addEventListener(kind, event => {
      if (!event.target.matches?.(".Quiz input.Input-text")) return;
      event.stopPropagation();
      if (event.key === "Enter") answer(event.target);
    }, true);

  const style = document.createElement("style");
  style.textContent = `.Quiz { --jq-multiple-choice-bg: #23395d; --jq-many-choice-bg: #1d4b45;
    --jq-numeric-bg: #23395d; --jq-text-color: #fafafa; --jq-numeric-input-label: #fafafa;
    --jq-numeric-input-bg: #fff; --jq-correct-color: #8fe3a8; --jq-incorrect-color: #ffb4a8; }
    .Quiz .Input-text { color: #111 !important; background: #fff !important; border: 2px solid #fff; }
    .Quiz .Input-text.correctButton { background: #8fe3a8 !important; }
    .Quiz .Input-text.incorrectButton { background: #ffb4a8 !important; }
    .Quiz .MCButton, .Quiz .MCButton * { color: #111 !important; }
    .Quiz .Feedback { border-radius: 6px; background: #23395d; padding: 0 10px 10px; }
    .Quiz .Feedback:empty { display: none !important; }
    .Quiz .Feedback:not(.correct, .incorrect) { color: #fafafa; }
    .Quiz .NumericQn + .Answer { background: #23395d; margin: 0; padding: 0 10px; }
    .Quiz .InpLabel::after { content: " (then press Enter)"; font-size: 11pt; }`;
  document.head.append(style);
})();
