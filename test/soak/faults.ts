// What the soak does to a run, by name. Each leaves the run as it should be able to go on, with one return to a commit at the most.

import { setTimeout as sleep } from 'node:timers/promises';
import type { FaultProxy } from '../processes/faultProxy.ts';
import type { FaultyRun } from './faultyRun.ts';

type Fault = (run: FaultyRun, tower: 0 | 1) => unknown;

/** The soak's --step-timeout is 3 s, its --join-timeout 60 s. */
export const faults: Readonly<Record<string, Fault>> = {
  'worker killed': (run, tower) => run.signalWorker(tower, 'SIGKILL'),
  'worker stopped for a second': (run, tower) => run.stopWorker(tower, 1000),
  'worker stopped for longer than its deadline': (run, tower) => run.stopWorker(tower, 6000),
  'coordinator killed': (run) => {
    run.coordinator.signal('SIGKILL');
  },
  'control link reset': ({ control }) => {
    control.reset();
  },
  'peer link reset': ({ peer }) => {
    peer.reset();
  },
  'peer link cut within a tensor': ({ peer }) => {
    peer.afterBytes(50_000, 'cut');
  },
  'bit flipped between the towers': ({ peer }) => {
    peer.afterBytes(50_000, 'flip');
  },
  'bit flipped between coordinator and worker': ({ control }) => {
    control.afterBytes(50_000, 'flip');
  },
  'peer link away for a second': ({ peer }) => heldUp(peer, 1000),
  'peer link away for longer than its deadline': ({ peer }) => heldUp(peer, 5000),
  'control link away for a second': ({ control }) => heldUp(control, 1000),
  'both links slow for two seconds': async ({ control, peer }) => {
    [control.latencyMs, peer.latencyMs] = [30, 30];
    await sleep(2000);
    [control.latencyMs, peer.latencyMs] = [0, 0];
  },
};

async function heldUp(proxy: FaultProxy, ms: number): Promise<void> {
  proxy.blackhole();
  await sleep(ms);
  proxy.heal();
}
