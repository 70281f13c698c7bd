import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { describe, expect, onTestFinished, test } from 'vitest';
import { ProcessKeeper } from '../../bench/processKeeper.ts';
import { descendants, isRunning, leafUsage, parseStat, parseStatusBytes } from '../../bench/processTree.ts';

/** A shell that prints the number of its child, a sleep; both would live for a minute. */
const shellWithChild = ['-c', 'sleep 60 & echo $!; wait'];

describe('/proc', () => {
  test('a name with brackets and spaces does not shift the fields', () => {
    const fields = ['S', '42', '1', '1', '0', '-1', '4194304', '7777', '0', '0'];
    expect(parseStat(`99 (a) b (c)) ${fields.join(' ')}`)).toEqual({ state: 'S', parent: 42, minorFaults: 7777 });
  });

  test('a field of status is given in bytes', () => {
    const status = 'Name:\tnode\nVmPeak:\t  9000 kB\nVmHWM:\t    2048 kB\n';
    expect(parseStatusBytes(status, 'VmHWM')).toBe(2_097_152);
    expect(parseStatusBytes(status, 'VmSwap')).toBeUndefined();
  });

  test('finds the children of children; only the leaves count as workers', async () => {
    const shell = spawn('sh', ['-c', 'sh -c "sleep 60; true" & echo ready; wait'], { stdio: ['ignore', 'pipe', 'ignore'] });
    onTestFinished(() => {
      for (const pid of [...descendants(shell.pid!), shell.pid!]) process.kill(pid, 'SIGKILL');
    });
    await expect.poll(() => descendants(shell.pid!).length).toBe(2);
    const [leaf] = leafUsage(shell.pid!);
    expect(leaf?.pid).toBe(descendants(shell.pid!)[1]);
    expect(leaf?.peakMemoryBytes).toBeGreaterThan(0);
    expect(leaf?.memoryBytes).toBeLessThanOrEqual(leaf?.peakMemoryBytes ?? 0);
    // Its standard input, output and error, at least.
    expect(leaf?.openFiles).toBeGreaterThanOrEqual(3);
  });

  test('this process runs; a number that nobody has does not', () => {
    expect(isRunning(process.pid)).toBe(true);
    expect(isRunning(2 ** 30)).toBe(false);
  });
});

describe('the keeper of processes', () => {
  async function startTree(keeper: ProcessKeeper) {
    const kept = keeper.spawn('sh', shellWithChild, { stdio: ['ignore', 'pipe', 'ignore'] });
    const [line] = (await once(kept.child.stdout!, 'data')) as [Buffer];
    return { kept, grandchild: Number(line.toString()) };
  }

  test('kills a process with all below it', async () => {
    const keeper = new ProcessKeeper();
    const { kept, grandchild } = await startTree(keeper);
    expect(isRunning(grandchild)).toBe(true);
    await keeper.kill(kept);
    expect(isRunning(grandchild)).toBe(false);
    expect(await kept.ended).toBe('killed by SIGKILL');
  });

  test('ends all that still runs at once, and what is over is no obstacle', async () => {
    const keeper = new ProcessKeeper();
    const [first, second] = [await startTree(keeper), await startTree(keeper)];
    await keeper.kill(first.kept);
    keeper.closeAll();
    await second.kept.ended;
    await expect.poll(() => isRunning(second.grandchild)).toBe(false);
  });

  test('a command that does not exist has ended with a reason', async () => {
    const { ended } = new ProcessKeeper().spawn('crosstower-no-such-command', [], {});
    expect(await ended).toMatch(/^could not be started/);
  });
});
