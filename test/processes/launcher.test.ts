// scripts/cluster-launch.sh: one command for a whole run, whose output, stop and exit code speak for all three processes.

import { beforeAll, describe, expect } from 'vitest';
import { endless, Stage, test, until } from './stage.ts';
import type { Command, Flags } from './stage.ts';

const soonMs = 8000;
/** Enough that a worker can be killed before the last of them. */
const steps = 60;

function launch(stage: Stage, flags: Flags): Command {
  return stage.start(stage.scripts.launcher, ['local', '--cpu', '--threads', '1', '--', ...stage.startArguments(flags)], {
    ownGroup: true,
  });
}

describe('cluster-launch.sh local', () => {
  let model = '';
  beforeAll(async () => {
    const stage = new Stage();
    model = await stage.trainedModel({ steps });
    stage.clear();
  });

  test('trains to the end, marks every line with who says it, and exits 0', async ({ stage }) => {
    const launcher = launch(stage, { steps });
    expect(await launcher.exit()).toBe(0);
    for (const line of launcher.lines) expect(line).toMatch(/^(coordinator|tower 0|tower 1) \| /);
    expect(launcher.output).toMatch(/^coordinator \| .*step 60\/60/m);
    expect(launcher.output).toMatch(/^tower 0 \| worker: the run is done$/m);
    expect(launcher.output).toMatch(/^tower 1 \| worker: the run is done$/m);
    expect(stage.modelHash()).toBe(model);
  });

  test('stops all three in good order on one Ctrl-C and exits 75', async ({ stage }) => {
    const launcher = launch(stage, { steps: endless });
    await stage.reached(3);
    launcher.signalGroup('SIGINT');
    expect(await launcher.exit(soonMs)).toBe(75);
    expect(launcher.output).toContain('cluster-launch: stopping: every process finishes its step');
    expect(launcher.output.match(/^tower \d \| worker: the run was stopped$/gm)).toHaveLength(2);
    expect(stage.modelHash()).toMatch(/^[0-9a-f]{64}$/);
    await stage.expectEmpty();
  });

  test('returns the exit code of the first that failed, and leaves nothing running', async ({ stage }) => {
    const launcher = launch(stage, { data: stage.path('pictures') });
    expect(await launcher.exit(soonMs)).toBe(5);
    expect(launcher.output).toMatch(/^coordinator \| coordinator: there is no data /m);
    expect(launcher.output).toContain('cluster-launch: coordinator failed with exit code 5; stopping the others');
    expect(launcher.lastLine).toMatch(/^cluster-launch: coordinator failed: coordinator: there is no data /);
    await stage.expectEmpty();
  });

  test('shows the error of the worker that failed first last, whatever the others say of it', async ({ stage }) => {
    const launcher = launch(stage, { steps: endless, 'max-restarts': 0 });
    await stage.reached(3);
    await stage.signalRealWorker(1, 'SIGKILL');
    expect(await launcher.exit(soonMs)).toBe(3);
    expect(launcher.output).toMatch(/^coordinator \| coordinator: .*tower 1/m);
    expect(launcher.lastLine).toMatch(/^cluster-launch: tower 1 failed: worker: its process was killed by SIGKILL/);
  });

  test('starts a worker that was lost again, and the run ends with the same weights', async ({ stage }) => {
    const launcher = launch(stage, { steps, 'max-restarts': 3 });
    await stage.reached(3);
    await stage.signalRealWorker(1, 'SIGKILL');
    expect(await launcher.exit(), launcher.output).toBe(0);
    expect(launcher.output).toContain('cluster-launch: starting tower 1 again');
    expect(stage.modelHash()).toBe(model);
  });

  test('ends its processes when it is killed itself', async ({ stage }) => {
    const launcher = launch(stage, { steps: endless });
    await stage.reached(3);
    launcher.signal('SIGKILL');
    await launcher.exit();
    const commands = (): boolean => stage.processes().some(({ args }) => args[0] === 'node' || args[0] === process.execPath);
    await until('the end of all commands', () => !commands(), soonMs);
    expect(stage.modelHash()).toMatch(/^[0-9a-f]{64}$/);
    // Its guard gives them ten seconds before it kills them; these are not waited for.
    stage.clear();
  });
});
