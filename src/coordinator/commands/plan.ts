// `coordinator plan`: what a network costs and how long a step may take, before anything runs.

import { z } from 'zod';
import { exitCodes } from '../../spec/errors.ts';
import { networkFor, planNetwork } from '../../spec/network.ts';
import { layerCosts, predictStep, ringBytes, stepCost } from '../../spec/plan.ts';
import { parseFlags } from '../command.ts';
import type { Command, Flag } from '../command.ts';
import { configFlags, readConfig } from '../options.ts';

const group = 'This command:';

const planFlags = {
  config: { type: 'string', requiresArg: true, group, describe: 'YAML or JSON file with the fields below; flags win over it' },
  classes: { type: 'number', requiresArg: true, group, default: 1000, describe: 'Classes of the data' },
  'device-flops': { type: 'number', requiresArg: true, group, default: 8e12, describe: 'FLOP/s of one device' },
  efficiency: { type: 'number', requiresArg: true, group, default: 0.5, describe: 'Share of them that training reaches' },
  'link-speed': { type: 'number', requiresArg: true, group, default: 1e10, describe: 'Bytes/s of a link, each way' },
  json: { type: 'boolean', group, describe: 'As JSON' },
} as const satisfies Record<string, Flag>;

const planSchema = z.object({
  config: z.string().optional(),
  classes: z.int().min(2).max(1_000_000),
  'device-flops': z.number().positive(),
  efficiency: z.number().positive().max(1),
  'link-speed': z.number().positive(),
  json: z.boolean().optional(),
});

export const plan: Command = {
  name: 'plan',
  describe: 'Shapes, work, traffic and a model of the step time of a network',
  flags: { ...planFlags, ...configFlags() },
  examples: [['plan --device-flops 8e12 --link-speed 1e10', 'the full network with 1000 classes']],

  run(argv, { output }) {
    const args = parseFlags(planSchema, argv);
    const config = readConfig(args.config, argv);
    const network = planNetwork(networkFor(config), args.classes);
    const { replicas } = config;
    const shard = Math.ceil(config.batch / replicas);
    const machine = {
      deviceFlops: args['device-flops'],
      efficiency: args.efficiency,
      linkSpeed: args['link-speed'],
      replicas,
    };
    const report = {
      network: config.network,
      batch: config.batch,
      replicas,
      shard,
      layers: layerCosts(network),
      step: stepCost(network, shard),
      ringBytes: ringBytes(network, replicas),
      modelledSeconds: predictStep(network, config.batch, machine),
    };
    output.write(args.json === true ? `${JSON.stringify(report)}\n` : asText(report));
    return Promise.resolve(exitCodes.done);
  },
};

function asText({
  layers,
  step,
  batch,
  replicas,
  shard,
  ringBytes: ring,
  modelledSeconds: time,
}: {
  layers: ReturnType<typeof layerCosts>;
  step: ReturnType<typeof stepCost>;
  batch: number;
  replicas: number;
  shard: number;
  ringBytes: number;
  modelledSeconds: ReturnType<typeof predictStep>;
}): string {
  const ms = (seconds: number): string => `${(1000 * seconds).toFixed(1)} ms`;
  const mega = (value: number): string => (value / 1e6).toFixed(2);
  const rows = [
    ['one tower', 'input', 'output', 'parameters', 'MFLOP', 'MFLOP', 'kept for', 'MB'],
    ['', '', '', '', 'forward', 'training', 'backward, MB', 'sent'],
    ...layers.map((layer) => [
      layer.name,
      layer.input.join('x'),
      layer.output.join('x'),
      layer.parameters.toLocaleString('en'),
      (layer.forwardFlops / 1e6).toFixed(1),
      (layer.trainingFlops / 1e6).toFixed(1),
      mega(shard * layer.keptBytes),
      mega(shard * layer.crossingBytes),
    ]),
  ];
  const widths = rows[0]?.map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0))) ?? [];
  return [
    ...rows.map((row) =>
      row
        .map((cell, i) => (i < 3 ? cell.padEnd(widths[i] ?? 0) : cell.padStart(widths[i] ?? 0)))
        .join('  ')
        .trimEnd(),
    ),
    '',
    `FLOP are of one picture, bytes of ${replicas === 1 ? 'a batch of' : `the largest of ${String(replicas)} shards of a batch of`} ${String(batch)}; both towers are alike.`,
    `parameters  ${step.parameters.toLocaleString('en')} in both towers, momentum ${mega(step.optimiserBytes)} MB`,
    `memory      ${mega(step.memoryBytes)} MB a tower: weights, velocities, gradients, and what is kept for the backward pass`,
    `work        ${(step.trainingFlops / 1e9).toFixed(1)} GFLOP a step, both towers${replicas === 1 ? '' : ' of a replica'}`,
    `crossing    ${mega(step.forwardBytes)} MB forward, ${mega(step.backwardBytes)} MB backward a step, from each tower`,
    ...(replicas === 1 ? [] : [`ring        ${mega(ring)} MB a step, from each tower to that of the next replica`]),
    `model       compute ${ms(time.compute)}, crossings ${ms(time.crossings)}, sync of replicas ${ms(time.sync)}`,
    `            step ${ms(time.hidden)} with all traffic hidden, ${ms(time.notHidden)} with none: a model, not a measurement`,
    '',
  ].join('\n');
}
