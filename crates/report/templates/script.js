"use strict";
(() => {
  // The page's own tooltip comes at once; the browser's would come on top of it.
  for (const token of document.querySelectorAll("pre.tokens i[title]")) token.removeAttribute("title");

  const form = document.querySelector("form.filters");
  if (!form) return;
  const answers = [...document.querySelectorAll(".answer")];
  const tasks = [...document.querySelectorAll("article.task")];
  const apply = () => {
    const arm = form.elements.arm.value;
    const verdict = form.elements.verdict.value;
    let shown = 0;
    for (const answer of answers) {
      const words = answer.dataset.verdict.split(" ");
      answer.hidden = (arm && answer.dataset.arm !== arm) || (verdict && !words.includes(verdict));
      if (!answer.hidden) shown += 1;
    }
    for (const task of tasks) task.hidden = !task.querySelector(".answer:not([hidden])");
    form.querySelector("output").textContent = `${shown} of ${answers.length} answers`;
  };
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("change", apply);
  form.hidden = false;
  apply();
})();
