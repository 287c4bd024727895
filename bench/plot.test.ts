import { expect, test } from 'vitest'
import { svg } from './plot.ts'

const plot = {
  title: 'pieces & "takers"',
  subtitle: 'all done',
  x: { label: 'seconds', max: 20 },
  y: { label: 'pieces', max: 1024 },
  marks: [{ at: 10, label: 'bound 10.0 s' }],
  lines: [
    {
      name: 'seeder',
      points: [
        [0, 0],
        [20, 1024],
      ] as const,
      reference: true,
    },
    {
      name: 'taker <1>',
      points: [
        [0, 0],
        [10, 512],
        [20, 1024],
      ] as const,
    },
  ],
}

test('a plot draws every line from its first point to its last, within the axes', () => {
  const paths = [...svg(plot).matchAll(/<path d="M([\d. L]+)"/g)].map(([, path]) => path!.split('L'))
  expect(paths).toEqual([
    ['76 422', '720 84'],
    ['76 422', '398 253', '720 84'],
  ])
})

test('a plot names its lines, axes and marks, and escapes what XML would misread', () => {
  const drawn = svg(plot)
  for (const shown of [
    'pieces &amp; "takers"',
    'all done',
    'seconds',
    '>pieces<',
    'bound 10.0 s',
    'seeder',
    'taker &lt;1&gt;',
  ])
    expect(drawn).toContain(shown)
})

test('ticks of an axis are round numbers up to its end', () => {
  const ticks = [...svg(plot).matchAll(/text-anchor="(?:middle|end)">([\d,]+)</g)].map(([, tick]) => tick)
  expect(ticks).toEqual(['0', '5', '10', '15', '20', '0', '500', '1,000'])
})
