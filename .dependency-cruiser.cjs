// The arrows of ARCHITECTURE.md, checked by `npm run check:imports`. A folder may import itself and what is listed here.
const arrows = {
  spec: [],
  data: ['spec'],
  formats: ['spec'],
  tower: ['spec'],
  protocol: ['spec'],
  worker: ['tower', 'protocol', 'spec'],
  coordinator: ['data', 'formats', 'protocol', 'spec'],
};

// Packages that one place alone may import: everything else sees them through that place's own words.
const owned = [
  { name: 'tensorflow-only-in-tower', packages: '@tensorflow/', owner: '^src/tower/' },
  { name: 'wire-only-in-protocol', packages: '(zeromq|msgpackr)/', owner: '^src/protocol/' },
  { name: 'yargs-only-in-cli', packages: 'yargs/', owner: '^src/[^/]+/cli\\.ts$' },
];

module.exports = {
  forbidden: [
    ...Object.entries(arrows).map(([folder, targets]) => ({
      name: `${folder}-imports-${targets.join('-') || 'nothing-of-ours'}`,
      severity: 'error',
      from: { path: `^src/${folder}/` },
      to: { path: '^(src|bench|test|scripts)/', pathNot: `^src/(${[folder, ...targets].join('|')})/` },
    })),
    ...owned.map(({ name, packages, owner }) => ({
      name,
      severity: 'error',
      from: { path: '^src/', pathNot: owner },
      to: { path: `node_modules/(@types/)?${packages}` },
    })),
    {
      name: 'no-cycles',
      severity: 'error',
      from: {},
      to: { circular: true },
    },
    {
      name: 'only-known-folders',
      comment: 'A new folder in src/ gets its arrows in this file.',
      severity: 'error',
      from: { path: `^src/(?!(${Object.keys(arrows).join('|')})/)` },
      to: {},
    },
    {
      name: 'resolvable',
      severity: 'error',
      from: {},
      to: { couldNotResolve: true },
    },
    {
      name: 'no-dev-packages-in-src',
      severity: 'error',
      from: { path: '^src/' },
      to: { dependencyTypes: ['npm-dev'], pathNot: 'node_modules/@types/' },
    },
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.json' },
    enhancedResolveOptions: { exportsFields: ['exports'], conditionNames: ['import', 'node', 'default', 'types'] },
  },
};
