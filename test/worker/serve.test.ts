// What a worker tells its coordinator between two generations, with a real control link.

import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, expect, test } from 'vitest';
import { serve } from '../../src/worker/serve.ts';
import { Bench, assign, isMessage, next } from '../protocol/sockets.ts';

const bench = new Bench();
afterEach(() => {
  bench.close();
});

const token = 'a token of sixteen or more';
const links = [{ role: 'listen', tower: 0, neighbour: 'tower', token, address: 'tcp://127.0.0.1:0' }] as const;

test('that a generation has ended which the coordinator ended is not said in the next, which it would end as well', async () => {
  const coordinator = await bench.coordinator();
  const lines: string[] = [];
  const served = serve({
    address: coordinator.address,
    joinTimeoutMs: 5000,
    insecure: false,
    ...{ tower: 0, replica: 0, device: 'CPU', packageVersion: '0.1.0' },
    stop: new AbortController().signal,
    log: (line) => {
      lines.push(line);
    },
  });
  const { workerId } = await next(coordinator.events, isMessage('hello'));
  coordinator.send(workerId, { ...assign, links: [...links] });
  await next(coordinator.events, isMessage('link'));
  coordinator.startGeneration(2);
  coordinator.send(workerId, { ...assign, links: [...links] });
  const said: string[] = [];
  const heard = (type: string) =>
    next(coordinator.events, (event): event is typeof event => {
      if (event.kind === 'message') said.push(event.message.header.type);
      return said.includes(type);
    });
  await heard('link');
  expect(lines).toContain('the coordinator has begun another generation; the step is dropped');
  await sleep(100);
  coordinator.send(workerId, { type: 'stop', step: 0, exitCode: 0, reason: 'the run is done' });
  await heard('bye');
  expect(said).toEqual(['link', 'bye']);
  expect(await served).toBe(0);
});
