"use strict";
// Two clicks in a picture choose a pixel and its goal, and write the command for a terminal.
for (const picker of document.querySelectorAll(".picker")) {
  const rows = Number(picker.dataset.rows), columns = Number(picker.dataset.columns);
  const picture = picker.querySelector(".pick"), command = picker.querySelector("pre");
  const say = picker.querySelector(".say");
  const chosen = { from: picker.dataset.pixel.split(","), to: picker.dataset.goal.split(",") };
  let next = "from";
  const show = () => {
    for (const name of ["from", "to"]) {
      const box = picker.querySelector("." + name).style, [row, column] = chosen[name];
      box.width = 100 / columns + "%";
      box.height = 100 / rows + "%";
      box.left = (100 * column) / columns + "%";
      box.top = (100 * row) / rows + "%";
    }
    command.textContent = `${command.dataset.command} --pixel ${chosen.from} --to ${chosen.to}`;
    say.textContent = next === "from" ? "Click the pixel to move." : "Now click where it shall go.";
  };
  picture.addEventListener("click", (event) => {
    const box = picture.getBoundingClientRect();
    const row = Math.floor((rows * (event.clientY - box.top)) / box.height);
    const column = Math.floor((columns * (event.clientX - box.left)) / box.width);
    chosen[next] = [Math.min(rows - 1, Math.max(0, row)), Math.min(columns - 1, Math.max(0, column))];
    next = next === "from" ? "to" : "from";
    show();
  });
  show();
}
