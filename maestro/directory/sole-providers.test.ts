import { randomBytes } from 'node:crypto'
import fc from 'fast-check'
import { expect, it } from 'vitest'
import type { ContentId } from '../../common/ids.ts'
import { sha256 } from '../../common/merkle.ts'
import { SoleProviders } from './sole-providers.ts'

const idOf = (n: number) => sha256(Buffer.from(String(n))).toString('hex') as ContentId
const provider = (n: number) => ({ peerKey: n + 1, id: idOf(n), size: n * 2 ** 20 })

it('knows what it was told last, or nothing, but never anything else', () => {
  const name = fc.string({ unit: fc.constantFrom(...'ab/é🎬'), minLength: 1, maxLength: 4 })
  const step = fc.record({ name, n: fc.nat(1000), kind: fc.constantFrom('set', 'set', 'delete', 'clear') })
  fc.assert(
    fc.property(fc.array(step, { maxLength: 300 }), fc.uint8Array({ minLength: 8, maxLength: 8 }), (steps, key) => {
      const cache = new SoleProviders(64, key)
      const truth = new Map<string, ReturnType<typeof provider>>()
      for (const { name, n, kind } of steps) {
        if (kind === 'set') {
          cache.set(name, provider(n))
          truth.set(name, provider(n))
          expect(cache.get(name)).toEqual(provider(n))
        } else if (kind === 'delete') {
          cache.delete(name)
          truth.delete(name)
        } else {
          cache.clear()
          truth.clear()
        }
        for (const asked of steps) {
          const known = cache.get(asked.name)
          if (known) expect(known).toEqual(truth.get(asked.name))
        }
      }
    }),
    { numRuns: 50 },
  )
})

it('grows, and then holds most of what fits', () => {
  const cache = new SoleProviders(2 ** 16, randomBytes(8))
  const names = Array.from({ length: 40_000 }, (_, i) => `folder/file-${i}`)
  for (let round = 0; round < 2; round++) for (const [i, name] of names.entries()) cache.set(name, provider(i))
  const held = names.filter((name) => cache.get(name) !== undefined)
  expect(held.length).toBeGreaterThan(names.length * 0.7)
  expect(cache.get('folder/other')).toBeUndefined()
})

it('does not grow past its bound', () => {
  const cache = new SoleProviders(2, randomBytes(8))
  for (let i = 0; i < 100; i++) cache.set(`f${i}`, provider(i))
  expect(Array.from({ length: 100 }, (_, i) => cache.get(`f${i}`)).filter(Boolean).length).toBeLessThanOrEqual(2)
})
