import { lstatSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { contentIdOf } from '../../common/merkle.ts'
import { CatalogFixture, useSharedHasher } from './catalog.fixture.ts'

useSharedHasher()

const path = fc.constantFrom('a', 'b', 'd/a', 'd/b', 'd/e/a', 'd/e/b', 'f', 'f/a', 'd', 'd/e')
const step = fc.oneof(
  { weight: 4, arbitrary: fc.record({ kind: fc.constant('write' as const), path, data: fc.string({ maxLength: 3 }) }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('rename' as const), path, to: path }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('remove' as const), path }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('refresh' as const) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('restart' as const) }) },
)
type Step = typeof step extends fc.Arbitrary<infer T> ? T : never

/** What the file system makes of a step; one that is impossible where it stands is no step. */
function apply(root: string, step: Exclude<Step, { kind: 'refresh' | 'restart' }>): void {
  const at = (path: string) => join(root, path)
  try {
    if (step.kind === 'write') {
      mkdirSync(dirname(at(step.path)), { recursive: true })
      writeFileSync(at(step.path), step.data)
    } else if (step.kind === 'rename') renameSync(at(step.path), at(step.to))
    else rmSync(at(step.path), { recursive: true })
  } catch {}
}

function onDisk(root: string): Record<string, string> {
  const names = readdirSync(root, { recursive: true, encoding: 'utf8' })
  const files = names.filter((name) => lstatSync(join(root, name)).isFile())
  return Object.fromEntries(files.map((name) => [name, contentIdOf(readFileSync(join(root, name)))]))
}

async function run(steps: Step[], end: (fixture: CatalogFixture) => Promise<void>): Promise<void> {
  const fixture = new CatalogFixture({}, { settleMs: 10 })
  const told = new Map<string, string>()
  const start = async () => {
    await fixture.start()
    told.clear()
    for (const { name, id } of fixture.catalog.entries()) told.set(name, id as string)
    fixture.catalog.onChange(({ added, removed }) => {
      for (const name of removed) told.delete(name)
      for (const { name, id } of added) told.set(name, id as string)
    })
  }
  await start()
  try {
    for (const step of steps) {
      if (step.kind === 'refresh') await fixture.catalog.refresh()
      else if (step.kind === 'restart') {
        await fixture.stop()
        await start()
      } else apply(fixture.root, step)
    }
    await end(fixture)
    expect(Object.fromEntries(told)).toEqual(fixture.shared())
  } finally {
    await fixture.stop()
  }
}

const runs = { numRuns: 40, endOnFailure: true }

test('whatever happens to the files, a refreshed catalog equals the disk', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 20 }), (steps) =>
      run(steps, async (fixture) => {
        await fixture.catalog.refresh()
        await expect.poll(() => fixture.shared(), { timeout: 3000, interval: 5 }).toEqual(onDisk(fixture.root))
      }),
    ),
    runs,
  )
})

test('whatever happens to the files, a watching catalog comes to equal the disk', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 20 }), (steps) =>
      run(steps, (fixture) =>
        expect.poll(() => fixture.shared(), { timeout: 3000, interval: 5 }).toEqual(onDisk(fixture.root)),
      ),
    ),
    runs,
  )
})
