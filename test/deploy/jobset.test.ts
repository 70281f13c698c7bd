// deploy/jobset.yaml, as far as it can be checked without a cluster: the names and numbers that its parts rely on each other for.

import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { parse } from 'yaml';
import { z } from 'zod';
import { exitCodes } from '../../src/spec/errors.ts';
import { workerPlace } from '../../src/spec/launchEnvironment.ts';
import { packageRoot } from '../../src/spec/packageRoot.ts';

const resourcesSchema = z.strictObject({
  requests: z.record(z.string(), z.union([z.string(), z.number()])),
  limits: z.record(z.string(), z.union([z.string(), z.number()])),
});

const containerSchema = z.strictObject({
  name: z.string(),
  image: z.string(),
  command: z.array(z.string()),
  args: z.array(z.string()),
  env: z.array(z.strictObject({ name: z.string(), value: z.string() })),
  ports: z.array(z.strictObject({ containerPort: z.int() })).optional(),
  resources: resourcesSchema,
  securityContext: z.strictObject({
    allowPrivilegeEscalation: z.literal(false),
    readOnlyRootFilesystem: z.literal(true),
    capabilities: z.strictObject({ drop: z.tuple([z.literal('ALL')]) }),
  }),
  volumeMounts: z.array(z.strictObject({ name: z.string(), mountPath: z.string(), readOnly: z.boolean().optional() })),
});

const ruleSchema = z.union([
  z.strictObject({
    action: z.literal('Ignore'),
    onPodConditions: z.tuple([z.strictObject({ type: z.literal('DisruptionTarget'), status: z.literal('True') })]),
  }),
  z.strictObject({
    action: z.literal('FailJob'),
    onExitCodes: z.strictObject({
      containerName: z.string(),
      operator: z.literal('In'),
      values: z.array(z.int().min(1).max(255)),
    }),
  }),
]);

/** The fields of batch/v1 Job that are used, and no others. */
const jobSchema = z.strictObject({
  completions: z.int(),
  parallelism: z.int(),
  completionMode: z.literal('Indexed'),
  backoffLimit: z.int(),
  podFailurePolicy: z.strictObject({ rules: z.array(ruleSchema) }),
  template: z.strictObject({
    spec: z.strictObject({
      restartPolicy: z.literal('Never'), // podFailurePolicy demands it.
      terminationGracePeriodSeconds: z.int(),
      automountServiceAccountToken: z.literal(false),
      securityContext: z.strictObject({
        runAsNonRoot: z.literal(true),
        runAsUser: z.int().min(1),
        runAsGroup: z.int().min(1),
        fsGroup: z.int().min(1),
        seccompProfile: z.strictObject({ type: z.literal('RuntimeDefault') }),
      }),
      containers: z.tuple([containerSchema]),
      volumes: z.array(z.looseObject({ name: z.string() })),
    }),
  }),
});

const jobSetSchema = z.strictObject({
  apiVersion: z.literal('jobset.x-k8s.io/v1alpha2'),
  kind: z.literal('JobSet'),
  metadata: z.strictObject({ name: z.string() }),
  spec: z.strictObject({
    network: z.strictObject({ enableDNSHostnames: z.literal(true) }),
    successPolicy: z.strictObject({ operator: z.literal('All'), targetReplicatedJobs: z.array(z.string()) }),
    failurePolicy: z.strictObject({
      maxRestarts: z.int().min(1),
      rules: z.array(
        z.strictObject({
          name: z.string(),
          action: z.literal('FailJobSet'),
          onJobFailureReasons: z.tuple([z.literal('PodFailurePolicy')]),
          targetReplicatedJobs: z.array(z.string()),
        }),
      ),
    }),
    replicatedJobs: z.tuple([
      z.strictObject({ name: z.literal('coordinator'), replicas: z.literal(1), template: z.strictObject({ spec: jobSchema }) }),
      z.strictObject({ name: z.literal('worker'), replicas: z.literal(1), template: z.strictObject({ spec: jobSchema }) }),
    ]),
  }),
});

const text = readFileSync(new URL('deploy/jobset.yaml', packageRoot()), 'utf8');
// As kubectl reads it: YAML 1.1, where 0440 would be octal and in 1.2 is not.
const [oldYaml, newYaml] = (['1.1', '1.2'] as const).map((version) => parse(text, { version, merge: true }) as unknown);
const jobSet = jobSetSchema.parse(oldYaml);
const jobs = jobSet.spec.replicatedJobs.map(({ name, template: { spec } }) => ({
  name,
  job: spec,
  pod: spec.template.spec,
  container: spec.template.spec.containers[0],
}));
const [coordinator, worker] = jobs as [(typeof jobs)[number], (typeof jobs)[number]];

function environmentOf({ container }: (typeof jobs)[number]): Record<string, string> {
  return Object.fromEntries(container.env.map(({ name, value }) => [name, value]));
}

test('means the same in both versions of YAML', () => {
  expect(newYaml).toEqual(oldYaml);
});

test('workers look for the coordinator under the name that the headless service gives its pod', () => {
  const service = jobSet.metadata.name;
  const pod = `${service}-${coordinator.name}-0-0`;
  const port = coordinator.container.ports?.[0]?.containerPort;
  const places = [0, 1].map((index) =>
    workerPlace(
      { tower: undefined, coordinator: undefined, gpu: 'auto', cpu: false },
      { ...environmentOf(worker), JOB_COMPLETION_INDEX: `${index}` },
      () => 1,
    ),
  );
  const address = `tcp://${pod}.${service}:${port!}`;
  expect(places).toEqual([
    { tower: '0', coordinator: address, gpu: 0, notes: [] },
    { tower: '1', coordinator: address, gpu: 0, notes: [] },
  ]);
  expect(environmentOf(coordinator)).toEqual(environmentOf(worker));
});

test('there is one coordinator, whose end is that of the run, and a worker for each tower with a GPU of its own', () => {
  expect([coordinator.job.completions, coordinator.job.parallelism]).toEqual([1, 1]);
  expect([worker.job.completions, worker.job.parallelism]).toEqual([2, 2]);
  expect(jobSet.spec.successPolicy.targetReplicatedJobs).toEqual(['coordinator']);
  expect(worker.container.resources.limits['nvidia.com/gpu']).toBe(1);
  expect(worker.container.resources.requests['nvidia.com/gpu']).toBe(1); // Kubernetes demands that they are the same.
});

test('exit code 75, and whatever a new start mends, starts again; the rest ends the JobSet', () => {
  const failing = coordinator.job.podFailurePolicy.rules.flatMap((rule) => (rule.action === 'FailJob' ? [rule.onExitCodes] : []));
  expect(failing.map(({ containerName }) => containerName)).toEqual([coordinator.container.name]);
  const final = new Set(failing.flatMap(({ values }) => values));
  const again: number[] = [exitCodes.bug, exitCodes.peerLost, exitCodes.outOfMemory, exitCodes.stoppedEarly];
  for (const code of Object.values(exitCodes)) {
    if (code !== exitCodes.done) expect(final.has(code), `exit code ${code}`).toBe(!again.includes(code));
  }
  // Its failure is the JobSet's to answer, not the job's own.
  expect(coordinator.job.backoffLimit).toBe(0);
  expect(coordinator.container.args.join()).toContain('--resume auto');
});

test('keys come out of secrets, and only what is mounted is read', () => {
  for (const { container, pod } of jobs) {
    const mounted = new Set(container.volumeMounts.map(({ name }) => name));
    expect([...mounted].sort()).toEqual(pod.volumes.map(({ name }) => name).sort());
    expect(pod.volumes.find(({ name }) => name === 'keys')).toMatchObject({ secret: { defaultMode: 0o440 } });
    expect(container.command.slice(0, 2)).toEqual(['tini', '--']); // It takes the place of the image's entry point.
    const paths = container.args.join().match(/(?<=[\s"])\/[a-z]+/g) ?? [];
    const mounts = container.volumeMounts.map(({ mountPath }) => mountPath);
    for (const path of paths) expect(mounts).toContain(path);
  }
});
