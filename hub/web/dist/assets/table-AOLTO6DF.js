import{a,b}from"./chunk-TLWCMLVJ.js";import"./chunk-JEEVK7PC.js";export{b as DataTable,a as sorted};
