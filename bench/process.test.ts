import { statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { scratch } from './process.ts'

test('small files in memory take no huge page each', () => {
  const folder = scratch('memory for small files')
  try {
    const file = join(folder.path, 'small')
    writeFileSync(file, Buffer.alloc(4096, 1))
    expect(statSync(file).blocks * 512).toBeLessThan(2 ** 20)
  } finally {
    folder.remove()
  }
})
