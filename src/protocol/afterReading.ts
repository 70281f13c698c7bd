// The order of a turn of the event loop: timers, then sockets, then immediates. A kernel may block the loop for seconds; what then waits in
// a socket has arrived in time, whatever a timer or a monitor says first.

/** Runs something after what lies in the sockets has been read. */
export function afterReading(action: () => void): void {
  setImmediate(action);
}
