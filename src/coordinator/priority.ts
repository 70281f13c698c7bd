// The coordinator beside its workers: on a machine with as many workers as cores, whatever it does takes a worker's time, and the other worker
// waits for that one at the next crossing. Batches are loaded and sent ahead; there is time for them while the workers wait anyway.

import { readdirSync } from 'node:fs';
import { setPriority } from 'node:os';

/** Of nice: a tenth of a worker's share of a core that both want. */
const behindWorkers = 10;

/**
 * Lowers the priority of all threads of this process but its main one: loaders, ZeroMQ's, V8's. The main one answers the workers at once, and what
 * it starts inherits its priority. Where threads have none of their own, as only Linux gives them, nothing changes.
 */
export function giveWay(): void {
  for (const thread of threads()) {
    if (thread === process.pid) continue;
    try {
      setPriority(thread, behindWorkers);
    } catch {
      // It has ended, or was given a lower one already, which only root may raise.
    }
  }
}

function threads(): number[] {
  try {
    return readdirSync('/proc/self/task').map(Number);
  } catch {
    return [];
  }
}
