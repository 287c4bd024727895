/** The import direction: maestro → common ← peer, and protocol-free domains. */
module.exports = {
  forbidden: [
    { name: 'no-circular', severity: 'error', from: {}, to: { circular: true } },
    { name: 'common-knows-nobody', severity: 'error', from: { path: '^common/' }, to: { path: '^(maestro|peer|scripts|bench|tests)/' } },
    { name: 'maestro-not-peer', severity: 'error', from: { path: '^maestro/' }, to: { path: '^(peer|scripts|bench|tests)/' } },
    { name: 'peer-not-maestro', severity: 'error', from: { path: '^peer/' }, to: { path: '^(maestro|scripts|bench|tests)/' } },
    {
      name: 'domain-knows-no-protocol',
      comment: 'transfer, dht, flood, overlay, locate, mailbox and follow see small interfaces; rpc, app and events implement them',
      severity: 'error',
      from: { path: '^peer/(transfer|dht|flood|overlay|simulate|locate|catalog|mailbox|follow)/' },
      to: { path: '(node_modules/(hono|@hono|@grpc|undici|rabbitmq-client)/|^peer/(rpc|app|cli|events)/|^common/(http|rpc)\\.ts)' },
    },
    { name: 'store-only-through-interface', severity: 'error', from: { path: '^maestro/(?!main|maestro\\.ts|events\\.ts|directory/|mailboxes/)', pathNot: '\\.test\\.ts$' }, to: { path: '^maestro/(directory|mailboxes)/sqlite' } },
    {
      name: 'rabbitmq-only-behind-the-bus',
      comment: 'all others see the interface EventBus',
      severity: 'error',
      from: { pathNot: '^common/events/amqp-|^(tests|bench)/|\\.(test|fixture)\\.ts$' },
      to: { path: 'node_modules/rabbitmq-client/' },
    },
    { name: 'agents-are-not-simulated', severity: 'error', from: { path: '^peer/(?!simulate|cli)', pathNot: '\\.(test|fixture)\\.ts$' }, to: { path: '^peer/simulate/' } },
    { name: 'only-roots-know-all', severity: 'error', from: { path: '^peer/(app|rpc)/' }, to: { path: '^peer/(agent|main)\\.ts' } },
    {
      name: 'no-test-support-in-products',
      comment: 'fixtures and contract suites are for tests, and for the benchmarks',
      severity: 'error',
      from: { pathNot: '^(tests|bench)/|\\.(test|fixture|contract)\\.ts$' },
      to: { path: '^tests/|\\.(test|fixture|contract)\\.ts$' },
    },
    { name: 'not-to-unresolvable', severity: 'error', from: {}, to: { couldNotResolve: true } },
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    exclude: { path: '^dist/' },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.check.json' },
    enhancedResolveOptions: { exportsFields: ['exports'], conditionNames: ['import', 'require', 'node', 'default', 'types'] },
  },
}
