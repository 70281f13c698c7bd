// What a network costs before it runs: per layer of one tower its shapes, work and traffic, and a model of the time of a step.
// Invariant: everything is read off a NetworkPlan; the time is a model (docs/plan.md), never a measurement.

import { parameterCount, towerParameters } from './layout.ts';
import { crossingFloats, forwardMultiplyAdds, trainingMultiplyAdds } from './counts.ts';
import type { NetworkPlan } from './network.ts';

const bytesPerFloat = 4;

export interface LayerCost {
  readonly name: string;
  /** One picture, one tower: what its own tower feeds it, and what it gives. */
  readonly input: readonly number[];
  readonly output: readonly number[];
  /** That one tower holds. */
  readonly parameters: number;
  /** Of one picture in one tower; a multiply-add is two. */
  readonly forwardFlops: number;
  /** Forward, and back to weights and input; conv1 needs no gradient of its input. */
  readonly trainingFlops: number;
  /** What a tower keeps of one picture for the backward pass: its input, the peer's, and its maps after each step. */
  readonly keptBytes: number;
  /** What a tower sends for one picture, in both directions of a training step. */
  readonly crossingBytes: number;
}

/** The layers of one tower. fc8's bias lies in both. */
export function layerCosts(plan: NetworkPlan): LayerCost[] {
  const blocks = towerParameters(plan, 0);
  const parameters = (name: string): number =>
    blocks.filter(({ layer }) => layer === name).reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0);
  const crossingBytes = (part: NetworkPlan): number => {
    const { forward, backward } = crossingFloats(part);
    return (forward + backward) * bytesPerFloat;
  };
  const convs = plan.convs.map((conv, i) => {
    const alone = { ...plan, convs: [conv], denses: [] };
    // Two operations a multiply-add, half of the work in each tower.
    const forwardFlops = forwardMultiplyAdds(alone);
    const [input, maps] = [conv.input, conv.maps].map(({ height, width, channels }) => height * width * channels) as [
      number,
      number,
    ];
    const steps = conv.spec.responseNorm ? 2 : 1;
    return {
      name: conv.spec.name,
      input: [conv.input.height, conv.input.width, conv.input.channels],
      output: [conv.output.height, conv.output.width, conv.output.channels],
      parameters: parameters(conv.spec.name),
      forwardFlops,
      trainingFlops: (i === 0 ? 2 : 3) * forwardFlops,
      keptBytes: (input * (conv.spec.crosses ? 2 : 1) + steps * maps) * bytesPerFloat,
      crossingBytes: crossingBytes(alone),
    };
  });
  const denses = plan.denses.map((dense) => {
    const alone = { ...plan, convs: [], denses: [dense] };
    const forwardFlops = forwardMultiplyAdds(alone);
    return {
      name: dense.spec.name,
      input: [dense.inputFeatures],
      output: [dense.units],
      parameters: parameters(dense.spec.name),
      forwardFlops,
      trainingFlops: 3 * forwardFlops,
      // A hidden layer keeps its units and their dropout mask.
      keptBytes: (dense.spec.hidden ? 2 * dense.inputFeatures + 2 * dense.units : dense.inputFeatures) * bytesPerFloat,
      crossingBytes: crossingBytes(alone),
    };
  });
  return [...convs, ...denses];
}

export interface StepCost {
  /** Of the whole network. */
  readonly parameters: number;
  /** Momentum, of the whole network. */
  readonly optimiserBytes: number;
  /** Of a step of one pair, both towers. */
  readonly trainingFlops: number;
  /** That one tower sends in a step. */
  readonly forwardBytes: number;
  readonly backwardBytes: number;
  /** That one tower holds: weights, velocities, gradients, and what the batch leaves for the backward pass. */
  readonly memoryBytes: number;
}

/** The totals of one step over `batch` pictures. */
export function stepCost(plan: NetworkPlan, batch: number): StepCost {
  const floats = crossingFloats(plan);
  const parameters = parameterCount(plan);
  return {
    parameters,
    optimiserBytes: parameters * bytesPerFloat,
    trainingFlops: 2 * batch * trainingMultiplyAdds(plan),
    forwardBytes: floats.forward * batch * bytesPerFloat,
    backwardBytes: floats.backward * batch * bytesPerFloat,
    memoryBytes: layerCosts(plan).reduce((sum, layer) => sum + 3 * bytesPerFloat * layer.parameters + batch * layer.keptBytes, 0),
  };
}

export interface Machine {
  /** Floating-point operations a second of one device, and the share of them that training reaches. */
  readonly deviceFlops: number;
  readonly efficiency: number;
  /** Bytes a second of a link, each way. */
  readonly linkSpeed: number;
  /** Pairs of towers, which share the batch (docs/adr/0017-replicas.md). */
  readonly replicas: number;
}

/** Seconds of a step in the model. */
export interface StepTime {
  readonly compute: number;
  readonly crossings: number;
  /** Ring all-reduce of one tower's gradients over the replicas. */
  readonly sync: number;
  /** Everything beside the compute is hidden behind it, or nothing is. */
  readonly hidden: number;
  readonly notHidden: number;
}

/** What each tower sends to the next replica in a step: ring all-reduce of its gradients. */
export function ringBytes(plan: NetworkPlan, replicas: number): number {
  return ((2 * (replicas - 1)) / replicas) * (parameterCount(plan) / 2) * bytesPerFloat;
}

/** The model's time of a step over a global batch. */
export function predictStep(plan: NetworkPlan, batch: number, machine: Machine): StepTime {
  const { deviceFlops, efficiency, linkSpeed, replicas } = machine;
  const { trainingFlops, forwardBytes, backwardBytes } = stepCost(plan, batch / replicas);
  const compute = trainingFlops / 2 / (deviceFlops * efficiency);
  const crossings = (forwardBytes + backwardBytes) / linkSpeed;
  const sync = ringBytes(plan, replicas) / linkSpeed;
  return { compute, crossings, sync, hidden: Math.max(compute, crossings + sync), notHidden: compute + crossings + sync };
}
