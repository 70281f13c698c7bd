// Times a call often enough for a median, after it has warmed up the memory it works in.

const warmUpCalls = 3;
const leastCalls = 5;
const leastMs = 250;

/** Milliseconds of each call. On a CPU a TensorFlow op is done when its call returns. */
export function timeCalls(call: () => void): number[] {
  for (let i = 0; i < warmUpCalls; i++) call();
  const times: number[] = [];
  const start = performance.now();
  while (times.length < leastCalls || performance.now() - start < leastMs) {
    const before = performance.now();
    call();
    times.push(performance.now() - before);
  }
  return times;
}
