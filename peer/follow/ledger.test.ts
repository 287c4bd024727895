import fc from 'fast-check'
import { expect, test } from 'vitest'
import { A, name } from './follow.fixture.ts'
import { type FollowedFile, Ledger } from './ledger.ts'

test('accounts are the sums of their files, whatever happened before', () => {
  const file = fc.record({
    name: fc.constantFrom('a', 'b', 'c', 'd').map(name),
    id: fc.constant(A),
    size: fc.nat(1000),
    pattern: fc.constantFrom('p', 'q'),
    state: fc.constantFrom<FollowedFile['state'][]>('wanted', 'here', 'gone'),
    proven: fc.boolean(),
  })
  const step = fc.oneof(
    file.map((put) => ({ put })),
    file.map(({ name }) => ({ drop: name })),
  )
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
      const ledger = new Ledger()
      const model = new Map<string, FollowedFile>()
      for (const step of steps)
        if ('put' in step) {
          ledger.put(step.put)
          model.set(step.put.name, step.put)
        } else {
          ledger.drop(step.drop)
          model.delete(step.drop)
        }
      const sum = (pattern: string | undefined, ...states: string[]) => {
        const files = [...model.values()].filter(
          (file) => (pattern === undefined || file.pattern === pattern) && states.includes(file.state),
        )
        return { files: files.length, bytes: files.reduce((total, { size }) => total + size, 0) }
      }
      for (const pattern of ['p', 'q']) {
        const { here, wanted } = ledger.account(pattern)
        expect({ here, wanted }).toEqual({ here: sum(pattern, 'here'), wanted: sum(pattern, 'wanted') })
        const proven = [...model.values()].filter((file) => file.proven && file.state === 'wanted')
        const bytes = proven.reduce((total, file) => total + (file.pattern === pattern ? file.size : 0), 0)
        expect(ledger.used(pattern)).toBe(sum(pattern, 'here').bytes + bytes)
        expect(ledger.known(pattern)).toBe(sum(pattern, 'here', 'wanted', 'gone').files)
        expect(ledger.of(pattern)).toHaveLength(ledger.known(pattern))
      }
      expect(ledger.wanted).toBe(sum(undefined, 'wanted').files)
    }),
  )
})
