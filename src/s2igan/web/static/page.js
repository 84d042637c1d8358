// The page: records or takes a file, asks the server to draw it, and shows what was heard and drawn.

import { startRecording } from "./recorder.js";

const KEPT = 6; // recordings side by side
const WAY_STEPS = 7; // pictures from one recording to another
const LARGE_PIXELS = 128; // pictures with a shorter side are enlarged without smoothing

const facts = document.body.dataset;
const limits = Object.fromEntries(["samples", "seconds", "steps", "megabytes"].map((name) => [name, Number(facts[name])]));
const element = (id) => document.getElementById(id);
const history = [];
let current = null; // the recording in use: { blob, name, file, url }; the name is for people, the file to be saved as
let busy = false;
let changed = false; // the recording or an option, while the pictures before were drawn

function make(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

function say(sentence) {
  element("status").textContent = sentence;
}

function complain(sentence) {
  const error = element("error");
  error.textContent = sentence;
  error.hidden = !sentence;
  if (!sentence) return;
  say("");
  error.scrollIntoView({ block: "nearest" });
}

/** Sends a request; what the server answers, or an error with its sentence. */
async function ask(path, body) {
  let answer;
  try {
    answer = await fetch(path, { method: "POST", body });
  } catch {
    throw new Error("The server cannot be reached; check that it still runs, then try again.");
  }
  const content = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(content.error ?? `The server answered with status ${answer.status}; try again.`);
  return content;
}

/** Runs one thing at a time; its failure is shown as a sentence. */
async function alone(sentence, task) {
  if (busy) return;
  busy = true;
  document.body.dataset.busy = "";
  complain("");
  say(sentence);
  try {
    await task();
  } catch (error) {
    complain(error.message);
  } finally {
    busy = false;
    delete document.body.dataset.busy;
  }
  if (changed) draw();
}

function wholeNumber(input) {
  const number = Number(input.value);
  if (input.value === "" || !Number.isInteger(number) || number < Number(input.min) || number > Number(input.max)) {
    throw new Error(`${input.parentElement.textContent.trim()} must be a whole number from ${input.min} to ${input.max}.`);
  }
  return number;
}

function use(blob, file, name = file) {
  if (blob.size > limits.megabytes * 1e6) {
    complain(`The recording has more than ${limits.megabytes} MB; choose a shorter part of it.`);
    return;
  }
  current = { blob, file, name, url: URL.createObjectURL(blob) };
  draw();
}

function draw() {
  changed = busy;
  if (busy) return null;
  const recording = current;
  return alone("Drawing…", async () => {
    const samples = wholeNumber(element("samples"));
    const seed = wholeNumber(element("seed"));
    const answer = await ask(`api/draw?samples=${samples}&seed=${seed}`, recording.blob);
    showHeard(recording, answer);
    showDrawn(recording, answer);
    remember(recording, answer);
    const pictures = samples === 1 ? "1 picture" : `${samples} pictures`;
    say(`Drawn: ${pictures} for ${answer.speech_seconds.toFixed(1)} seconds of speech.`);
    element("pictures").scrollIntoView({ block: "nearest" });
  });
}

function showHeard(recording, answer) {
  element("heard").hidden = false;
  if (element("player").src !== recording.url) element("player").src = recording.url;
  const bars = answer.waveform.map((loudness, x) => `M${x + 0.5} ${30 - 29 * loudness}V${30 + 29 * loudness}`).join("");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("d", bars);
  path.setAttribute("stroke", "currentColor");
  path.setAttribute("stroke-width", "0.8");
  element("waveform").replaceChildren(path);
  element("spectrogram").src = answer.spectrogram;
}

function picture(source, alt, side) {
  const image = make("img", { src: source, alt });
  if (side < LARGE_PIXELS) image.className = "pixelated";
  return image;
}

function showDrawn(recording, answer) {
  element("pictures").hidden = false;
  element("drawn").replaceChildren(
    ...answer.images.map(({ seed, scales }) => {
      const sides = Object.keys(scales).map(Number).sort((a, b) => a - b);
      const largest = sides.at(-1);
      const figure = make("figure", {}, picture(scales[largest], `Picture drawn for ${recording.name}, seed ${seed}`, largest));
      if (sides.length > 1) {
        const coarse = sides.slice(0, -1).map((side) => make("img", { src: scales[side], alt: `The same at ${side} pixels` }));
        figure.append(make("div", { className: "coarse" }, ...coarse));
      }
      const save = make("a", { href: scales[largest], download: `picture-seed-${seed}.png`, textContent: "Save" });
      save.setAttribute("aria-label", `Save the picture with seed ${seed}`);
      figure.append(make("figcaption", {}, make("span", { className: "small", textContent: `seed ${seed}` }), save));
      return figure;
    }),
  );
  const { seed, images, speech_seconds } = answer;
  const settings = { recording: recording.file, seed, samples: images.length, speech_seconds, model: facts.model, s2igan: facts.version };
  element("save-recording").href = recording.url;
  element("save-recording").download = recording.file;
  element("save-settings").href = `data:application/json,${encodeURIComponent(JSON.stringify(settings, null, 1))}`;
  element("nearest").hidden = !answer.nearest;
  element("nearest-pictures").replaceChildren(
    ...(answer.nearest ?? []).map(({ image, similarity }) => make("img", { src: image, alt: `Similarity ${similarity}` })),
  );
}

function remember(recording, answer) {
  const { scales } = answer.images[0];
  const entry = { recording, image: scales[Math.max(...Object.keys(scales).map(Number))], chosen: false };
  const before = history.findIndex((other) => other.recording === recording);
  if (before >= 0) history.splice(before, 1);
  history.unshift(entry);
  for (const dropped of history.splice(KEPT)) URL.revokeObjectURL(dropped.recording.url);
  element("earlier").hidden = history.length < 2;
  element("history").replaceChildren(
    ...history.map((one) => {
      const box = make("input", { type: "checkbox", checked: one.chosen });
      box.addEventListener("change", () => {
        one.chosen = box.checked;
        chosenChanged();
      });
      return make(
        "figure",
        {},
        make("img", { src: one.image, alt: "" }),
        make("label", {}, box, make("span", { textContent: one.recording.name })),
      );
    }),
  );
  chosenChanged();
}

function chosenChanged() {
  const chosen = history.filter((one) => one.chosen);
  element("between").disabled = chosen.length !== 2;
  for (const box of element("history").querySelectorAll("input")) box.disabled = chosen.length === 2 && !box.checked;
}

async function base64(blob) {
  const bytes = new Uint8Array(await blob.arrayBuffer());
  let text = "";
  for (let at = 0; at < bytes.length; at += 32768) text += String.fromCharCode(...bytes.subarray(at, at + 32768));
  return btoa(text);
}

element("between").addEventListener("click", () => {
  const [last, first] = history.filter((one) => one.chosen).map((one) => one.recording);
  alone("Drawing the way from one to the other…", async () => {
    const body = JSON.stringify({ first: await base64(first.blob), last: await base64(last.blob) });
    const steps = Math.min(WAY_STEPS, limits.steps);
    const answer = await ask(`api/interpolate?steps=${steps}&seed=${wholeNumber(element("seed"))}`, body);
    element("way").replaceChildren(
      ...answer.images.map((image, step) => make("img", { src: image, alt: `Step ${step + 1} of ${steps} from ${first.name} to ${last.name}` })),
    );
    say(`Drawn: the way from ${first.name} to ${last.name}.`);
  });
});

element("file").addEventListener("change", (event) => {
  const [file] = event.target.files;
  event.target.value = ""; // the same file may be chosen again
  if (file) use(file, file.name);
});

for (const button of document.querySelectorAll(".example")) {
  button.addEventListener("click", async () => {
    try {
      const answer = await fetch(`examples/${button.dataset.file}`);
      if (!answer.ok) throw new Error();
      use(await answer.blob(), button.dataset.file, button.firstChild.textContent.trim());
    } catch {
      complain("The example cannot be loaded; check that the server still runs.");
    }
  });
}

element("other-seed").addEventListener("click", () => {
  const seed = element("seed");
  seed.value = Math.floor(Math.random() * Number(seed.max));
  if (current) draw();
});

for (const id of ["samples", "seed"]) {
  element(id).addEventListener("change", () => current && draw());
}

let recording = null;
let takes = 0;

element("record").addEventListener("click", async () => {
  const button = element("record");
  if (recording) {
    recording.stop();
    return;
  }
  complain("");
  try {
    recording = await startRecording(limits.seconds, (seconds) => {
      element("record-label").textContent = `Stop and draw (${Math.floor(seconds)} s)`;
    });
    button.setAttribute("aria-pressed", "true");
    say("Listening. Speak now.");
    const wav = await recording.finished;
    takes += 1;
    use(wav, `recording-${takes}.wav`);
  } catch (error) {
    complain(error.message);
  } finally {
    recording = null;
    button.setAttribute("aria-pressed", "false");
    element("record-label").textContent = "Record";
  }
});
