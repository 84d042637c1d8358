// The microphone as a wav: the browser records in its own format, decodes that, and what is sent is plain 16-bit sound.

/**
 * Starts to record; asks the visitor for the microphone.
 *
 * `tick` is called with the seconds so far. `stop()` ends it, and so do `maxSeconds`; `finished` resolves to a wav.
 */
export async function startRecording(maxSeconds, tick) {
  if (!navigator.mediaDevices?.getUserMedia) {
    throw new Error("This page may not use the microphone: browsers allow it only over https or on this machine. Choose a sound file instead.");
  }
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ audio: true });
  } catch (error) {
    const none = error.name === "NotFoundError";
    throw new Error(none ? "No microphone was found; connect one, or choose a sound file." : "The microphone was not allowed; allow it in the browser, or choose a sound file.");
  }
  const recorder = new MediaRecorder(stream);
  const parts = [];
  const started = performance.now();
  tick(0);
  const clock = setInterval(() => {
    const seconds = (performance.now() - started) / 1000;
    tick(seconds);
    if (seconds >= maxSeconds - 0.5) recorder.stop();
  }, 250);
  const finished = new Promise((resolve, reject) => {
    recorder.ondataavailable = (event) => parts.push(event.data);
    recorder.onerror = () => reject(new Error("The recording broke off; try again."));
    recorder.onstop = () => {
      clearInterval(clock);
      stream.getTracks().forEach((track) => track.stop());
      toWav(new Blob(parts, { type: recorder.mimeType })).then(resolve, () => reject(new Error("Nothing was recorded; speak for a little longer.")));
    };
  });
  recorder.start();
  return { stop: () => recorder.state === "recording" && recorder.stop(), finished };
}

async function toWav(blob) {
  const context = new AudioContext();
  try {
    const sound = await context.decodeAudioData(await blob.arrayBuffer());
    return wavOf(sound.getChannelData(0), sound.sampleRate);
  } finally {
    context.close();
  }
}

/** A mono 16-bit wav of samples in [-1, 1]. */
function wavOf(samples, rate) {
  const view = new DataView(new ArrayBuffer(44 + 2 * samples.length));
  const text = (at, word) => [...word].forEach((letter, i) => view.setUint8(at + i, letter.charCodeAt(0)));
  text(0, "RIFF");
  view.setUint32(4, 36 + 2 * samples.length, true);
  text(8, "WAVEfmt ");
  view.setUint32(16, 16, true);
  view.setUint16(20, 1, true);
  view.setUint16(22, 1, true);
  view.setUint32(24, rate, true);
  view.setUint32(28, 2 * rate, true);
  view.setUint16(32, 2, true);
  view.setUint16(34, 16, true);
  text(36, "data");
  view.setUint32(40, 2 * samples.length, true);
  samples.forEach((x, i) => view.setInt16(44 + 2 * i, Math.max(-32768, Math.min(32767, Math.round(x * 32767))), true));
  return new Blob([view], { type: "audio/wav" });
}
