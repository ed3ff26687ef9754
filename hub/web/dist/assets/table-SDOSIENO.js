import{a,b}from"./chunk-BQ3AAX6I.js";import"./chunk-H4D2IXBI.js";export{b as DataTable,a as sorted};
