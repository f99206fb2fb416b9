// The webcam of the page Teach: frames are sent as small JPEG files, each after the last was answered.
const webcam = (() => {
  const SIDE = 224, PAUSE = 120;
  let stream = null, purpose = null, isWaiting = false;
  const video = () => document.querySelector("video.gh-webcam");

  const reasons = {
    NotAllowedError: "The browser was not allowed to use the webcam. Allow it in the address bar and try again.",
    NotFoundError: "No webcam was found on this machine.",
    NotReadableError: "The webcam is in use by another program.",
  };
  async function start() {
    if (!navigator.mediaDevices?.getUserMedia) {
      emitEvent("webcam-state", { on: false, problem:
        "This browser gives no access to a webcam on this page: it needs http://localhost, http://127.0.0.1 or https." });
      return;
    }
    try {
      stream = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: 640 }, height: { ideal: 480 } } });
      video().srcObject = stream;
      await video().play();
      emitEvent("webcam-state", { on: true, problem: "" });
    } catch (error) {
      emitEvent("webcam-state", { on: false, problem: reasons[error.name] ?? `The webcam cannot be used: ${error.message}` });
    }
  }
  function stop() {
    purpose = null;
    for (const track of stream?.getTracks() ?? []) track.stop();
    stream = null;
    if (video()) video().srcObject = null;
    emitEvent("webcam-state", { on: false, problem: "" });
  }
  // The square in the middle, as the network would crop it.
  function frame() {
    const source = video(), side = Math.min(source.videoWidth, source.videoHeight);
    const canvas = document.createElement("canvas");
    canvas.width = canvas.height = SIDE;
    canvas.getContext("2d").drawImage(source,
      (source.videoWidth - side) / 2, (source.videoHeight - side) / 2, side, side, 0, 0, SIDE, SIDE);
    return canvas.toDataURL("image/jpeg", 0.9);
  }
  function send() {
    if (purpose === null || isWaiting || !stream || !video()?.videoWidth) return;
    isWaiting = true;
    emitEvent("webcam-frame", { purpose, frame: frame() });
  }
  // Called by the server when it has dealt with a frame.
  function next() {
    isWaiting = false;
    setTimeout(send, PAUSE);
  }
  // purpose: "try", or "class:NAME" to add frames to a class; null: none.
  function want(wanted) {
    purpose = wanted;
    if (stream) send();
  }
  // A button that records while it is held down, by pointer or by keyboard.
  addEventListener("pointerdown", (event) => hold(event.target, true));
  for (const end of ["pointerup", "pointercancel", "blur"]) addEventListener(end, () => release());
  addEventListener("keydown", (event) => { if (event.key === " " && !event.repeat) hold(event.target, true); });
  addEventListener("keyup", () => release());
  let isHeld = false;
  function hold(target) {
    const button = target.closest?.("[data-record]");
    if (!button) return;
    isHeld = true;
    if (stream) want(`class:${button.dataset.record}`);
    else start().then(() => { if (isHeld) want(`class:${button.dataset.record}`); });
  }
  function release() {
    if (!isHeld) return;
    isHeld = false;
    want(document.querySelector("[data-trying]") ? "try" : null);
  }
  return { start, stop, next, want };
})();
