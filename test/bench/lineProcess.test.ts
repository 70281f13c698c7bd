import { describe, expect, onTestFinished, test } from 'vitest';
import { LineProcess } from '../../bench/lineProcess.ts';
import { ProcessKeeper } from '../../bench/processKeeper.ts';

/** A process that says it is ready, then answers with what it was told, and ends with an error on `fail`. */
const script = `
  console.log('{"ready":true}');
  require('node:readline').createInterface({ input: process.stdin }).on('line', (line) => {
    if (line === 'fail') { console.error('out of luck'); process.exit(7); }
    if (line === 'babble') console.log('{not json');
    console.log('a line for people');
    console.log(JSON.stringify({ line }));
  });`;

function start(): LineProcess {
  const keeper = new ProcessKeeper();
  onTestFinished(() => {
    keeper.closeAll();
  });
  return new LineProcess(keeper, {
    name: 'the echo',
    command: process.execPath,
    args: ['-e', script],
    environment: process.env,
  });
}

describe('a process that works on command', () => {
  //   bench        process
  //            <-  {"ready":true}
  //   run 3    ->
  //            <-  {"line":"run 3"}
  test('is ready, then answers each command with a JSON line; other lines are for people', async () => {
    const echo = start();
    expect(await echo.ask()).toEqual({ ready: true });
    expect(await echo.ask('run 3')).toEqual({ line: 'run 3' });
    expect(await echo.ask('run 4')).toEqual({ line: 'run 4' });
  });

  test('that ends is reported with how and with its last words, now and later', async () => {
    const echo = start();
    await echo.ask();
    await expect(echo.ask('fail')).rejects.toThrow(/the echo ended \(exit code 7\); it said:\nout of luck/);
    await expect(echo.ask('run 1')).rejects.toThrow('exit code 7');
  });

  test('that prints what is not JSON is reported with the line', async () => {
    const echo = start();
    await echo.ask();
    await expect(echo.ask('babble')).rejects.toThrow('{not json');
  });
});
