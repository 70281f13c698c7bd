// `npm run bench:exchange`: what a swap between two processes costs, by size and transport. Both towers hand over as much at once, as in a run.
// This process is tower 0; tower 1 is this command again, which swaps the same tags.

import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { z } from 'zod';
import { exitCodes } from '../src/spec/errors.ts';
import { newLinkCurves } from '../src/protocol/newKeys.ts';
import { ZeromqExchange } from '../src/protocol/zeromqExchange.ts';
import { machineLine, parseBenchFlags, sayer, thisMachine, warnIfBusy } from './benchOptions.ts';
import { runCommand } from './command.ts';
import type { ProcessKeeper } from './processKeeper.ts';
import { distribution } from './statistics.ts';
import { textTable, threeDigits } from '../src/coordinator/textTable.ts';
import { atLeast } from './throughputOptions.ts';

const help = `npm run bench:exchange -- [options]

Swaps tensors between two processes over tcp on this machine, over tcp with CURVE, and over ipc: microseconds from handing a tensor over to holding the
peer's, and GB/s of both directions together. Sizes run from a header's worth to the maps of conv3; what a run sends at most in one
swap is 5.5 MB (64 pictures at conv3) and 2.4 MB (128 at fc6).

Options
  --rounds N    rounds, transports in turns (default: 3)
  --swaps N     swaps of each size in a round (default: 100)
  --json        one JSON object on standard output
  --help        this text`;

const transports = ['tcp', 'curve', 'ipc'] as const;
type Transport = (typeof transports)[number];
const titles: Readonly<Record<Transport, string>> = { tcp: 'tcp', curve: 'tcp with CURVE', ipc: 'ipc' };

const sizesBytes = [1024, 16 * 1024, 128 * 1024, 1024 * 1024, 5_537_792, 16 * 1024 * 1024];
/** The first swaps of a link find cold code and fresh memory. */
const warmup = 20;
const peerArgument = 'peer';
const linkVariable = 'CROSSTOWER_BENCH_LINK';

const linkSchema = z.object({
  address: z.string(),
  token: z.string(),
  curve: z.object({ publicKey: z.string(), secretKey: z.string(), peerKey: z.string() }).optional(),
});
type Link = z.infer<typeof linkSchema>;

function exchangeOptions({ address, token, curve }: Link) {
  return { address, token, curve, run: 'bench', generation: 1, timeoutMs: 30_000, joinTimeoutMs: 30_000 };
}

/** Microseconds of each counted swap, by size. */
async function swapAll(exchange: ZeromqExchange, swaps: number): Promise<number[][]> {
  await exchange.ready;
  const times: number[][] = [];
  for (const bytes of sizesBytes) {
    const values = new Float32Array(bytes / 4).fill(1);
    const sized: number[] = [];
    for (let step = 0; step < warmup + swaps; step++) {
      const startMs = performance.now();
      await exchange.swap(
        { step, site: `${String(bytes)} bytes`, phase: 'forward', microBatch: 0 },
        { shape: [values.length], values },
      ).received;
      if (step >= warmup) sized.push(1000 * (performance.now() - startMs));
    }
    times.push(sized);
  }
  return times;
}

async function round(keeper: ProcessKeeper, transport: Transport, swaps: number): Promise<number[][]> {
  const token = randomUUID();
  const address = transport === 'ipc' ? `ipc://${join(keeper.temporaryFolder(), 'link')}` : 'tcp://127.0.0.1:0';
  const [own, theirs] = transport === 'curve' ? newLinkCurves() : [];
  const exchange = await ZeromqExchange.bind(exchangeOptions({ address, token, curve: own }));
  const link: Link = { address: exchange.address, token, curve: theirs };
  const peer = keeper.spawn(process.execPath, [fileURLToPath(import.meta.url), peerArgument, String(swaps)], {
    stdio: ['ignore', 'ignore', 'inherit'],
    env: { ...process.env, [linkVariable]: JSON.stringify(link) },
  });
  try {
    return await swapAll(exchange, swaps);
  } finally {
    await peer.ended;
    exchange.close();
  }
}

await runCommand('exchange', async (keeper) => {
  const [, , first, count = ''] = process.argv;
  if (first === peerArgument) {
    const link = linkSchema.parse(JSON.parse(process.env[linkVariable] ?? '{}'));
    await swapAll(await ZeromqExchange.connect(exchangeOptions(link)), Number(count));
    return exitCodes.done;
  }
  const flags = parseBenchFlags(process.argv.slice(2), ['rounds', 'swaps']);
  if (flags.isHelp) {
    console.log(help);
    return exitCodes.done;
  }
  const say = sayer('exchange');
  warnIfBusy(say);
  const swaps = atLeast(1, 'swaps', flags.swaps ?? '100');
  const times: Record<Transport, number[][]> = {
    tcp: sizesBytes.map(() => []),
    curve: sizesBytes.map(() => []),
    ipc: sizesBytes.map(() => []),
  };
  for (let i = 0; i < atLeast(1, 'rounds', flags.rounds ?? '3'); i++) {
    for (const transport of transports) {
      say(`round ${i + 1}: ${titles[transport]}`);
      const measured = await round(keeper, transport, swaps);
      measured.forEach((sized, k) => times[transport][k]?.push(...sized));
    }
  }
  const machine = thisMachine();
  const results = transports.flatMap((transport) =>
    sizesBytes.map((bytes, k) => {
      const microseconds = distribution(times[transport][k] ?? []);
      return { transport, bytes, microseconds, gigabytesPerSecond: (2 * bytes) / microseconds.median / 1000 };
    }),
  );
  if (flags.isJson) console.log(JSON.stringify({ machine, swaps, results }));
  else {
    const rows = results.map(({ transport, bytes, microseconds: { median, p10, p90 }, gigabytesPerSecond }) => [
      `${titles[transport]}, ${bytes.toLocaleString('en')} bytes`,
      threeDigits(median),
      `${threeDigits(p10)}..${threeDigits(p90)}`,
      threeDigits(gigabytesPerSecond),
    ]);
    console.log(`${machineLine(machine)}\n\n${textTable([['a swap', 'us, median', 'p10..p90', 'GB/s both ways'], ...rows])}`);
  }
  return exitCodes.done;
});
