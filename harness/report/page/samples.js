// Two samples of the same caption and latent, side by side or one over the other, at a zoom that shows their pixels.
for (const viewer of document.querySelectorAll(".viewer")) {
  const pictures = [...viewer.querySelectorAll("img")];
  const captions = [...viewer.querySelectorAll("li")].map((one) => one.textContent);
  const cells = [...new Set(pictures.map((one) => one.dataset.of))];
  const numbers = (name) => [...new Set(pictures.map((one) => one.dataset[name]).filter(Boolean))].sort((a, b) => a - b);

  const made = (name, parts, ...children) => {
    const element = Object.assign(document.createElement(name), parts);
    element.append(...children);
    return element;
  };
  const select = (title, values, texts, value) => {
    const box = made("select", {}, ...values.map((one, place) => made("option", { value: one, textContent: texts[place] })));
    box.value = value;
    box.ariaLabel = title;
    return [box, made("label", {}, title, box)];
  };
  const fakes = cells.filter((cell) => pictures.some((one) => one.dataset.of === cell && one.dataset.at));
  const cellBox = (title, value) => {
    const [box, label] = select(title, cells, cells, value);
    for (const option of box.options) if (fakes.includes(option.value)) option.dataset.cell = option.value;
    return [box, label];
  };
  const steps = numbers("at");
  const [left, leftLabel] = cellBox("Left", fakes[0] ?? cells[0]);
  const [right, rightLabel] = cellBox("Right", fakes[1] ?? cells.at(-1));
  const [caption, captionLabel] = select("Caption", [...captions.keys()], captions.map((one, place) => `${place + 1}. ${one}`), 0);
  const [seed, seedLabel] = select("Seed", numbers("under"), numbers("under"), numbers("under")[0]);
  for (const option of seed.options) option.dataset.seed = option.value;
  const [step, stepLabel] = select("Step", steps, steps, steps.at(-1));
  const over = made("input", { type: "checkbox" });
  const split = made("input", { type: "range", min: 0, max: 100, value: 50, ariaLabel: "How much of the right sample is shown" });
  const overLabel = made("label", { className: "inline" }, over, "one over the other", split);
  const shots = made("div", { className: "shots" });
  const sides = [left, right].map((box) => {
    const canvas = made("canvas", {});
    canvas.setAttribute("role", "img");
    const words = made("figcaption", {});
    shots.append(made("figure", {}, words, canvas));
    return { box, canvas, words };
  });

  // Real images have neither seed nor step.
  const found = (cell) => {
    const own = pictures.filter((one) => one.dataset.of === cell && (!one.dataset.under || one.dataset.under === seed.value));
    return own.find((one) => !one.dataset.at || one.dataset.at === step.value);
  };
  const draw = async () => {
    shots.classList.toggle("over", over.checked);
    split.disabled = !over.checked;
    sides[1].canvas.style.clipPath = over.checked ? `inset(0 0 0 ${100 - split.value}%)` : "";
    for (const { box, canvas, words } of sides) {
      const picture = found(box.value);
      const whose = picture?.dataset.at ? `${box.value}, seed ${seed.value}, step ${step.value}` : box.value;
      words.textContent = picture ? whose : `${box.value}: no sample of seed ${seed.value} at step ${step.value} here`;
      canvas.setAttribute("aria-label", `${words.textContent}: ${captions[caption.value]}`);
      if (!picture) {
        canvas.width = canvas.width; // empties it
        continue;
      }
      picture.loading = "eager";
      await picture.decode();
      const side = picture.naturalHeight;
      canvas.width = canvas.height = side;
      canvas.getContext("2d").drawImage(picture, side * caption.value, 0, side, side, 0, 0, side, side);
      shots.classList.toggle("large", side > 128);
    }
  };
  const choices = made("div", { className: "choices" }, captionLabel, leftLabel, rightLabel, seedLabel, stepLabel, overLabel);
  choices.addEventListener("input", draw);
  document.addEventListener("shown", () => {
    moveOn(left, right.value);
    moveOn(right, left.value);
    moveOn(seed);
    draw();
  });
  viewer.prepend(choices, shots);
  viewer.hidden = false;
  draw();
}
