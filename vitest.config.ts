import { defineConfig } from 'vitest/config'

export default defineConfig({
  test: {
    include: ['{maestro,peer,common,tests,bench}/**/*.test.ts'],
    testTimeout: 20_000,
    hookTimeout: 20_000,
    // A poll waits for something to happen; how long that may take is no claim of a test. Busy machines take seconds.
    expect: { poll: { timeout: 10_000 } },
    pool: 'forks',
    coverage: { provider: 'v8', include: ['{maestro,peer,common}/**/*.ts'] },
  },
})
