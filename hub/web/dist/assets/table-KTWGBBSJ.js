import{a,b}from"./chunk-JYQ32Z7W.js";import"./chunk-DQOZ56S5.js";export{b as DataTable,a as sorted};
