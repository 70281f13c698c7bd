// A process that dies, stops or never comes ends the run: soon, with exit code 3, and with one sentence that names it.

import { readdirSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect } from 'vitest';
import { endless, freeAddress, test } from './stage.ts';
import type { Command, Flags } from './stage.ts';

/** What "at once" may take on a machine that is busy otherwise; no deadline of the commands is as short. */
const soonMs = 5000;

describe('a worker that is killed', () => {
  test('ends the run within seconds, and the coordinator names tower and step', async ({ stage }) => {
    const { coordinator, workers } = await stage.run({ steps: endless });
    await stage.reached(3);
    await stage.signalRealWorker(1, 'SIGKILL');
    expect(await coordinator.exit(soonMs)).toBe(3);
    expect(await workers[0].exit(soonMs)).toBe(3);
    expect(await workers[1].exit(soonMs)).toBe(3);
    expect(coordinator.lastLine).toMatch(/^coordinator: tower 1 \(.+, pid \d+\) is lost, last heard '\w+' of step \d+: /);
    expect(workers[0].lastLine).toContain('tower 1');
    expect(workers[1].lastLine).toBe('worker: its process was killed by SIGKILL, likely because memory ran out');
  });

  test('with its command, ends the run as well, and its process goes with it', async ({ stage }) => {
    const { coordinator, workers } = await stage.run({ steps: endless });
    await stage.reached(3);
    workers[0].signal('SIGKILL');
    expect(await coordinator.exit(soonMs)).toBe(3);
    expect(await workers[1].exit(soonMs)).toBe(3);
    expect(coordinator.lastLine).toMatch(/^coordinator: tower 0 .+ step \d+/);
  });

  test('ends a run that started its workers itself', async ({ stage }) => {
    const coordinator = stage.coordinator({ local: 'cpu', threads: 1, steps: endless });
    await stage.reached(3);
    await stage.signalRealWorker(0, 'SIGKILL');
    expect(await coordinator.exit(soonMs)).toBe(3);
    // Whichever is noticed first: that the connection broke, or that the process ended.
    expect(coordinator.lastLine).toMatch(/^coordinator: tower 0\b.*, last heard '\w+' of step \d+/);
    await stage.expectEmpty();
  });
});

describe('a worker that stops answering', () => {
  test('for ever, ends the run after --step-timeout, and the coordinator names tower and step', async ({ stage }) => {
    const { coordinator, workers } = await stage.run({ steps: endless, 'step-timeout': 2 });
    await stage.reached(3);
    const stopped = performance.now();
    await stage.signalRealWorker(1, 'SIGSTOP');
    expect(await coordinator.exit(2000 + soonMs)).toBe(3);
    expect(performance.now() - stopped).toBeGreaterThan(1500);
    expect(coordinator.lastLine).toMatch(
      /^coordinator: step \d+: no '\w+' from tower 1 \(.+\), which does not answer, last heard /,
    );
    expect(coordinator.lastLine).not.toContain('tower 0');
    expect(await workers[0].exit(soonMs)).toBe(3);
    expect(workers[0].lastLine).toContain('tower 1');
    // Nobody can stop it but who started it: told twice, its command takes the stopped process along.
    workers[1].signal('SIGTERM');
    await workers[1].said(/once more/);
    await sleep(150);
    workers[1].signal('SIGTERM');
    expect(await workers[1].exit(soonMs)).toBe(143);
    await stage.expectEmpty();
  });

  test('for ever, is killed by the coordinator that started it', async ({ stage }) => {
    const coordinator = stage.coordinator({ local: 'cpu', threads: 1, steps: endless, 'step-timeout': 2 });
    await stage.reached(3);
    await stage.signalRealWorker(0, 'SIGSTOP');
    expect(await coordinator.exit(2000 + 3000 + soonMs)).toBe(3);
    expect(coordinator.lastLine).toMatch(/^coordinator: step \d+: no '\w+' from tower 0 /);
    expect(coordinator.lastLine).not.toContain('tower 1');
    await stage.expectEmpty();
  });

  test('for two seconds, changes no loss and no weight', async ({ stage }) => {
    const steps = 30;
    const { coordinator, workers } = await stage.run({ steps });
    await stage.reached(3);
    await stage.signalRealWorker(1, 'SIGSTOP');
    await sleep(2000);
    await stage.signalRealWorker(1, 'SIGCONT');
    expect(await coordinator.exit()).toBe(0);
    expect(await Promise.all(workers.map((worker) => worker.exit()))).toEqual([0, 0]);
    expect(stage.steps()).toHaveLength(steps);

    const undisturbed = stage.coordinator({ local: 'cpu', threads: 1, steps, 'run-dir': 'undisturbed' });
    expect(await undisturbed.exit()).toBe(0);
    const losses = (runDir: string): unknown[] => stage.steps(runDir).map((record) => record['loss']);
    expect(losses('run')).toEqual(losses('undisturbed'));
    expect(stage.modelHash('run')).toBe(stage.modelHash('undisturbed'));
  });
});

describe('a coordinator that is killed', () => {
  test('ends its workers within their deadline, and they name its address', async ({ stage }) => {
    const joinTimeout = 6;
    const { coordinator, address, workers } = await stage.run({ steps: endless }, { 'join-timeout': joinTimeout });
    await stage.reached(3);
    coordinator.signal('SIGKILL');
    expect(await coordinator.exit(soonMs)).toBe('SIGKILL');
    const exits = Promise.all(workers.map((worker) => worker.exit(1000 * joinTimeout + soonMs)));
    await sleep(2000);
    expect(workers.map(({ isRunning }) => isRunning)).toEqual([true, true]);
    expect(await exits).toEqual([3, 3]);
    for (const { lastLine } of workers) expect(lastLine).toContain(address);
  });

  test('takes the workers that it started along, and the next one removes its folder of sockets', async ({ stage }) => {
    const start = (flags: Flags): Command =>
      stage.start('env', [
        ...[`TMPDIR=${stage.folder}`, process.execPath, stage.scripts.coordinator, 'start'],
        ...stage.startArguments({ local: 'cpu', threads: 1, ...flags }),
      ]);
    const socketFolders = (): string[] => readdirSync(stage.folder).filter((name) => name.startsWith('crosstower-'));
    const coordinator = start({ steps: endless });
    await stage.reached(3);
    coordinator.signal('SIGKILL');
    await coordinator.exit(soonMs);
    await stage.expectEmpty();
    expect(socketFolders()).toHaveLength(1);
    expect(await start({ steps: 1, 'run-dir': 'next' }).exit()).toBe(0);
    expect(socketFolders()).toEqual([]);
  });
});

describe('somebody who never comes', () => {
  test('a worker without a coordinator gives up after --join-timeout and names the address', async ({ stage }) => {
    const address = await freeAddress();
    const worker = stage.worker({ coordinator: address, 'join-timeout': 1 });
    expect(await worker.exit()).toBe(3);
    expect(worker.lastLine).toBe(
      `worker: no coordinator at ${address} for 1 s: is the coordinator running, and is this its address?`,
    );
  });

  test('a coordinator without workers gives up after --join-timeout and names both towers', async ({ stage }) => {
    const coordinator = stage.coordinator({ 'join-timeout': 1 });
    const address = await coordinator.address();
    expect(await coordinator.exit()).toBe(3);
    expect(coordinator.lastLine).toBe(`coordinator: no worker for towers 0 and 1 joined at ${address}, after waiting 1 s`);
  });

  test('a coordinator with one worker names the tower that is missing, and the worker ends with it', async ({ stage }) => {
    const coordinator = stage.coordinator({ 'join-timeout': 6 });
    const worker = stage.worker({ coordinator: await coordinator.address(), tower: 1 });
    expect(await coordinator.exit()).toBe(3);
    expect(coordinator.output).toContain('waiting for a worker for tower 0');
    expect(coordinator.lastLine).toMatch(/^coordinator: no worker for tower 0 joined at \S+, after waiting 6 s$/);
    expect(await worker.exit(soonMs)).toBe(3);
    expect(worker.lastLine).toContain('tower 0');
  });
});
