// Runs beside the page, as an AudioWorklet: hands the microphone's samples on, block by block.
registerProcessor("samples", class extends AudioWorkletProcessor {
  process([channels]) {
    if (channels.length) this.port.postMessage(channels[0].slice());
    return true;
  }
});
